"""Real problems: known right programs pass, wrong ones and empty ones fail."""

from __future__ import annotations

import ast
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from beyond_ce.data import HumanEval
from beyond_ce.data.files import ROOT_VARIABLE, read_json_lines
from beyond_ce.data.programs.problem import FunctionTests, InputOutputTests
from beyond_ce.evaluation.code_execution import Tests, Verdict, run_all

# Time enough on a busy machine; MBPP/123 alone takes three seconds on a quiet one.
PATIENCE_S = 120.0


def rows(name: str) -> list[dict[str, Any]]:
    path = Path(os.environ.get(ROOT_VARIABLE, "")) / name
    if not os.environ.get(ROOT_VARIABLE) or not path.exists():
        pytest.skip(f"{name} is not in ${ROOT_VARIABLE}")
    return [row for _, row in read_json_lines(path)]


def judged(jobs: Iterable[tuple[str, Tests]]) -> list[Verdict]:
    return [verdict for _, verdict in sorted(run_all(list(jobs), timeout_s=PATIENCE_S))]


def reasons(names: Iterable[object], verdicts: list[Verdict], passed: bool) -> dict[object, str]:
    """Those that have not the verdict that they should have."""
    pairs = zip(names, verdicts, strict=True)
    return {name: f"{v.verdict} {v.reason}" for name, v in pairs if v.passed != passed}


def test_humaneval(tmp_path: Path) -> None:
    rows("humaneval/HumanEval.jsonl.gz")
    problems = HumanEval(cache_dir=tmp_path).problems("test")
    names = [problem.id for problem in problems]
    assert len(names) == 164

    def judge(programs: Iterable[str]) -> list[Verdict]:
        return judged(zip(programs, [problem.tests for problem in problems], strict=True))

    assert reasons(names, judge(problem.solutions[0] for problem in problems), passed=True) == {}
    for body in ("", "    pass\n"):
        programs = [problem.prefix + body for problem in problems]
        assert reasons(names, judge(programs), passed=False) == {}


def without_bodies(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [ast.Pass()]
    return ast.unparse(tree)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_mbpp() -> None:
    problems = rows("mbpp/mbpp.jsonl.gz")
    names = [row["task_id"] for row in problems]
    assert len(names) == 974
    tests = [
        FunctionTests("\n".join([row["test_setup_code"], *row["test_list"]]), None)
        for row in problems
    ]

    def judge(programs: Iterable[str]) -> list[Verdict]:
        return judged(zip(programs, tests, strict=True))

    right = judge(row["code"] for row in problems)
    assert reasons(names, right, passed=True) == {}
    assert reasons(names, judge("" for _ in problems), passed=False) == {}
    bodies = judge(without_bodies(row["code"]) for row in problems)
    assert reasons(names, bodies, passed=False) == {}


@pytest.mark.slow
def test_contests() -> None:
    start = time.monotonic()
    right: list[tuple[str, Tests]] = []
    wrong: list[tuple[str, Tests]] = []
    for row in rows("kattis/problems.jsonl.gz"):
        tolerance = re.search(r"float_\w*tolerance (\S+)", row["validator_flags"])
        kinds = (row["public_tests"], row["private_tests"], row["generated_tests"])
        tests = InputOutputTests(
            tuple(
                case for kind in kinds for case in zip(kind["input"], kind["output"], strict=True)
            ),
            PATIENCE_S,
            1024,
            float(tolerance[1]) if tolerance else None,
            None,
        )
        right += [(program, tests) for program in row["solutions"]["solution"]]
        wrong += [(program, tests) for program in row["incorrect_solutions"]["solution"]]
    assert (len(right), len(wrong)) == (177, 36)
    assert reasons(range(177), judged(right), passed=True) == {}
    assert reasons(range(36), judged(wrong), passed=False) == {}
    assert time.monotonic() - start < 600
