"""Programs that models write, run in a sandbox and judged by tests.

`execute` runs one, `run_tests` judges one, `run_all` judges many. `isolation()` says, for reports,
what keeps them from the rest of the machine.
"""

from beyond_ce.evaluation.code_execution.isolation import UNSANDBOXED_VARIABLE, isolation
from beyond_ce.evaluation.code_execution.judge import Tests, execute, run_tests, unsupported
from beyond_ce.evaluation.code_execution.many import run_all
from beyond_ce.evaluation.code_execution.verdict import Verdict

__all__ = [
    "UNSANDBOXED_VARIABLE",
    "Tests",
    "Verdict",
    "execute",
    "isolation",
    "run_all",
    "run_tests",
    "unsupported",
]
