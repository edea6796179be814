"""HumanEval: function bodies from signatures and docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from beyond_ce.data.programs.base import ProgramData
from beyond_ce.data.programs.problem import FunctionTests, Problem
from beyond_ce.data.programs.rows import BenchmarkRows, Hub, code_of
from beyond_ce.settings import PATH, TEXT, optional, takes

STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Where a function ends, from the paper (section 2.1)."""


class HumanEval(ProgramData):
    """HumanEval (Chen et al. 2021, arXiv 2107.03374): 164 functions to complete, all for testing.

    Prompt: the signature and docstring, as the authors wrote them. Test split: "test"; there is
    nothing to train on.

    Args:
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
        path: a folder with the rows in .jsonl, .jsonl.gz or .parquet files; null for the folder
            humaneval in $BEYOND_CE_DATA if there is one, else `openai/openai_humaneval` from the
            hub.
    """

    name = "humaneval"
    test_splits: tuple[str, ...] = ("test",)

    @takes("dataset", cache_dir=PATH, path=optional(TEXT))
    def __init__(self, *, cache_dir: str | Path, path: str | Path | None = None) -> None:
        self.cache_dir = Path(cache_dir)
        hub = Hub("openai/openai_humaneval", None, {"test": "test"})
        self.rows = BenchmarkRows(self.name, hub, path)

    def _definition(self) -> dict[str, Any]:
        return {"source": self.rows.identity(self.cache_dir)}

    @property
    def hub_name(self) -> str | None:
        return self.rows.hub_name

    def _problems(self) -> Iterator[tuple[str, Iterable[Problem]]]:
        yield "test", (_problem(row, where) for where, row in self.rows.read_all())


def _problem(row: dict[str, Any], where: str) -> Problem:
    prompt = code_of(row, "prompt", where)
    function = code_of(row, "entry_point", where)
    test = code_of(row, "test", where)
    start = re.search(rf"^def {re.escape(function)}\b", prompt, re.MULTILINE)
    # Some tests call a helper of the prompt, which a completion could define anew: they get it too.
    before = prompt[: start.start()] if start else ""
    return Problem(
        id=code_of(row, "task_id", where),
        prompt=prompt,
        tests=FunctionTests(f"{before}{test}\ncheck({function})\n", function),
        stop=STOP,
        solutions=(prompt + code_of(row, "canonical_solution", where),),
        prefix=prompt,
    )
