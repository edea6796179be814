"""APPS: problems of coding websites, with functions to call or with stdin and stdout."""

from __future__ import annotations

import ast
import hashlib
import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from beyond_ce.data.files import text_of
from beyond_ce.data.programs.base import ProgramData
from beyond_ce.data.programs.problem import (
    MEMORY_MB,
    TIME_LIMIT_S,
    FunctionTests,
    InputOutputTests,
    Problem,
)
from beyond_ce.data.programs.rows import BenchmarkRows, Hub, Row, code_of, texts_of
from beyond_ce.errors import UsageError, one_line
from beyond_ce.settings import NO_LIMIT, PATH, SHARE, TEXT, each, one_of, optional, takes
from beyond_ce.storage.reading import parse_json

log = logging.getLogger(__name__)

STOP = ("\nQUESTION:", "\nANSWER:", '\n"""')

# As in the authors' checker: solutions of websites that import these by themselves rely on it.
PREFIX = """\
import bisect, collections, copy, functools, heapq, itertools
import math, operator, random, re, string, sys
from collections import *
from functools import *
from heapq import *
from itertools import *
from typing import *
"""

# The result may be the expected value or, as for many tasks, its only element; tuples are lists.
_CALLS = """\
from math import inf, nan

def _plain(value):
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    return value

def _same(found, expected):
    found, expected = _plain(found), _plain(expected)
    return found == expected or expected == [found]

"""
_TOLERANCE = 1e-5  # between numbers that are printed, close to that of the authors' checker


class APPS(ProgramData):
    """APPS (Hendrycks et al. 2021, arXiv 2105.09938), by default its introductory problems.

    Prompt and answer as in the authors' evaluation: `QUESTION:`, the problem and its starter code,
    `Use Standard Input format` or `Use Call-Based format`, `ANSWER:`, the program. Test split:
    "test", with 1,000 introductory problems on the hub. A part of the 2,639 for training, chosen by
    a hash of each, is held out for validation.

    Rows of local files whose names say no split are for testing. They may have the authors' fields,
    or hold `tests` as a list, whose `input` then has one argument per line; an argument is text if
    it is no Python value in one of the tests. Problems without tests are dropped, and a warning
    counts them and those whose arguments cannot be told apart.

    Args:
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
        difficulties: which to take, of introductory, interview and competition.
        max_solutions: at most so many programs of each problem; null for all.
        validation_share: of the problems for training, on average.
        path: a folder with rows in .jsonl, .jsonl.gz or .parquet files; null for the folder apps in
            $BEYOND_CE_DATA if there is one, else `codeparrot/apps` from the hub.
    """

    name = "apps"
    test_splits: tuple[str, ...] = ("test",)

    @takes(
        "dataset",
        cache_dir=PATH,
        difficulties=each(one_of("introductory", "interview", "competition")),
        max_solutions=NO_LIMIT,
        validation_share=SHARE,
        path=optional(TEXT),
    )
    def __init__(
        self,
        *,
        cache_dir: str | Path,
        difficulties: Sequence[str],
        max_solutions: int | None,
        validation_share: float,
        path: str | Path | None = None,
    ) -> None:
        self.cache_dir = Path(cache_dir)
        self.difficulties = sorted(set(difficulties))
        self.max_solutions = max_solutions
        self.validation_share = validation_share
        splits = {"train": "train", "test": "test"}
        files = {split: f"{split}.jsonl" for split in splits}
        self.rows = BenchmarkRows(self.name, Hub("codeparrot/apps", None, splits, files), path)

    def _definition(self) -> dict[str, Any]:
        return {
            "source": self.rows.identity(self.cache_dir),
            "difficulties": self.difficulties,
            "max_solutions": self.max_solutions,
            "validation_share": self.validation_share,
        }

    @property
    def hub_name(self) -> str | None:
        return self.rows.hub_name

    def _problems(self) -> Iterator[tuple[str, Iterable[Problem]]]:
        rows = itertools.chain(self.rows.read("test"), self.rows.read(None))
        yield "test", self._read("test", rows)
        train = list(self._read("train", self.rows.read("train")))
        held_out = [self._is_held_out(problem) for problem in train]
        for split, wanted in (("validation", True), ("train", False)):
            yield split, [p for p, held in zip(train, held_out, strict=True) if held is wanted]

    def _is_held_out(self, problem: Problem) -> bool:
        first = hashlib.sha256(problem.prompt.encode()).digest()[:8]
        return int.from_bytes(first, "big") / 2**64 < self.validation_share

    def _read(self, split: str, rows: Iterable[Row]) -> Iterator[Problem]:
        count, untested = 0, 0
        for where, row in rows:
            if text_of(row, "difficulty", where) in self.difficulties:
                count += 1
                problem = _problem(row, where)
                untested += problem is None
                if problem is not None:
                    yield problem
        if untested:
            log.warning(
                "apps, %s: %d of %d problems have no tests that can be read and are dropped",
                *(split, untested, count),
            )

    def _answers(self, problem: Problem) -> list[tuple[str, str]]:
        return super()._answers(problem)[: self.max_solutions]


def _problem(row: dict[str, Any], where: str) -> Problem | None:
    """The problem of a row; None if it has no tests.

    Raises:
        UsageError: the row lacks a field, or one has another type.
    """
    ours = "question" in row
    question = text_of(row, "question" if ours else "description", where)
    starter = code_of(row, "starter_code", where)
    tests = _official_tests(row, starter, where) if ours else _listed_tests(row, starter, where)
    if tests is None:
        return None
    form = "Call-Based" if isinstance(tests, FunctionTests) else "Standard Input"
    answers = _json(row, "solutions", where) if ours else row.get("solutions") or []
    programs = texts_of({"solutions": answers}, "solutions", where)
    number = row.get("problem_id", row.get("id"))
    if ours and type(number) not in (int, str):
        raise UsageError(f"{where}: no 'problem_id'; is this the right file?")
    return Problem(
        id=f"APPS/{number}" if ours else text_of(row, "name", where),
        prompt=f"QUESTION:\n{question}\n{starter}\nUse {form} format\nANSWER:\n",
        tests=tests,
        stop=STOP,
        solutions=tuple(
            dict.fromkeys(
                PREFIX + text.replace("\r\n", "\n").strip("\n") + "\n" for text in programs
            )
        ),
        prefix=PREFIX,
    )


def _json(row: dict[str, Any], key: str, where: str) -> Any:
    """The value of a field of JSON; an empty text, as where nothing is known, gives an empty list.

    Raises:
        UsageError: it is none.
    """
    text = text_of(row, key, where)
    try:
        return parse_json(text) if text else []
    except ValueError as error:
        reason = one_line(error)[:80]
        raise UsageError(f"{where}: '{key}' is no JSON ({reason}); fetch the file again") from error


Tests = FunctionTests | InputOutputTests | None


def _official_tests(row: dict[str, Any], starter: str, where: str) -> Tests:
    """Those of the authors' field `input_output`."""
    return _tests(_json(row, "input_output", where), starter, where)


def _tests(tests: Any, starter: str, where: str) -> Tests:
    """Tests as the authors write them: `inputs`, `outputs` and, for functions, `fn_name`."""
    if not tests:
        return None
    inputs = tests.get("inputs") if isinstance(tests, dict) else None
    outputs = tests.get("outputs") if isinstance(tests, dict) else None
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise UsageError(f"{where}: the tests have no lists 'inputs' and 'outputs'")
    pairs = list(zip(inputs, outputs, strict=False))
    if not pairs:
        return None
    if isinstance(name := tests.get("fn_name"), str):
        if not all(isinstance(arguments, list) for arguments in inputs):
            raise UsageError(f"{where}: the arguments of {name} are no lists")
        return _calls(name, starter, pairs)
    return InputOutputTests(
        cases=tuple((_lines(stdin), _lines(stdout)) for stdin, stdout in pairs),
        time_limit_s=TIME_LIMIT_S,
        memory_mb=MEMORY_MB,
        tolerance=_TOLERANCE,
        grader=None,
    )


def _calls(name: str, starter: str, pairs: Iterable[tuple[list[Any], Any]]) -> FunctionTests:
    call = f"Solution().{name}" if re.search(r"^class Solution\b", starter, re.M) else name
    asserts = [
        f"assert _same({call}({', '.join(map(repr, arguments))}), {expected!r})\n"
        for arguments, expected in pairs
    ]
    return FunctionTests(_CALLS + "".join(asserts), name)


def _lines(value: Any) -> str:
    """Text, or a list of its lines."""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _listed_tests(row: dict[str, Any], starter: str, where: str) -> Tests:
    """Tests as a list of `input`, whose lines are the arguments, and `output`; or the authors'."""
    tests = row.get("tests")
    if isinstance(tests, dict) or not tests:
        return _tests(tests, starter, where)
    if not isinstance(tests, list) or not all(
        isinstance(t, dict)
        and isinstance(t.get("input"), str)
        and isinstance(t.get("output"), list)
        for t in tests
    ):
        raise UsageError(f"{where}: 'tests' is no list of texts 'input' and lists 'output'")
    outputs = [test["output"] for test in tests]
    name = re.search(r"def\s+(\w+)\s*\((.*?)\)", starter, re.S)
    if name is None:
        stdin = [test["input"] for test in tests]
        return _tests({"inputs": stdin, "outputs": outputs}, starter, where)
    most = len([part for part in name[2].split(",") if part.strip() not in ("", "self")])
    arguments = [test["input"].split("\n") if most > 1 else [test["input"]] for test in tests]
    if not all(len(values) <= most for values in arguments):
        return None
    texts = {i for values in arguments for i, text in enumerate(values) if not _is_value(text)}
    inputs = [
        [text if i in texts else ast.literal_eval(text) for i, text in enumerate(values)]
        for values in arguments
    ]
    return _tests({"inputs": inputs, "outputs": outputs, "fn_name": name[1]}, starter, where)


def _is_value(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return True
