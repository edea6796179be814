"""Contest problems: programs that read stdin and print the answer, right ones and wrong ones."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from beyond_ce.data.files import text_of
from beyond_ce.data.programs.base import ProgramData
from beyond_ce.data.programs.problem import MEMORY_MB, TIME_LIMIT_S, InputOutputTests, Problem
from beyond_ce.data.programs.rows import BenchmarkRows, Hub, Row, texts_of
from beyond_ce.errors import UsageError
from beyond_ce.settings import NO_LIMIT, PATH, SHARE, TEXT, optional, takes

PYTHON3 = (3, "PYTHON3")
"""Python 3 among the languages: 0 unknown, 1 PYTHON (that is 2), 2 CPP, 3 PYTHON3, 4 JAVA."""
CORRECT, INCORRECT = "correct", "incorrect"
STOP = ('\n"""', f"\n# {CORRECT}", f"\n# {INCORRECT}")

# Absolute, between numbers, as the authors' own checker has it (ValuesMatch in their
# execution/tester_sandboxer.cc); whole numbers have to be equal.
_TOLERANCE = 1e-5
_TESTS = ("public_tests", "private_tests", "generated_tests")
_FLAGS = ("float_tolerance", "float_absolute_tolerance", "float_relative_tolerance")


class ContestData(ProgramData):
    '''Problems of CodeContests' schema as programs to write, conditioned on a reward annotation.

    Prompt:

        """
        the problem's description
        """
        # correct

    Answer: a program. In training and validation, wrong programs follow `# incorrect`. Test prompts
    ask for a correct one. As the paper gives no format, this is ours; the annotation is next to the
    program, as small models look back only so far. A subclass implements `_definition` and `_rows`.
    '''

    @abstractmethod
    def _rows(self) -> Iterator[tuple[str, Iterable[Row]]]:
        """Yields each split's name and its rows, read or made only as they are asked for."""

    def _problems(self) -> Iterator[tuple[str, Iterable[Problem]]]:
        for split, rows in self._rows():
            yield split, (problem_of(row, where) for where, row in rows)

    def _answers(self, problem: Problem) -> list[tuple[str, str]]:
        asked, _, _ = problem.prompt.rpartition(CORRECT)
        return [
            *((problem.prompt, text) for text in problem.solutions),
            *((f"{asked}{INCORRECT}\n", text) for text in problem.wrong_solutions),
        ]


class CodeContests(ContestData):
    """CodeContests (Li et al. 2022, arXiv 2203.07814), its Python 3 programs; MTP figure 4.

    Problems for training whose programs are all in other languages are left out there. The hub's
    splits are used as they are: 13,328 problems for training, 117 for validation, 165 for testing.
    Rows of local files whose names say no split are divided by a hash of the problem's name.

    Limits of time and memory are those of the problem, or 10 seconds and 1,024 MiB where there are
    none. A problem that reads or writes a file, has a grader of its own or no tests is kept and
    marked: programs for it cannot be judged here.

    Args:
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
        max_solutions: at most so many right and so many wrong programs of each problem; null for
            all, which can be hundreds.
        max_characters: leave out programs for training and validation that are longer than this
            together with their prompt, as a model's context is limited; null for none.
        validation_share, test_share: of local problems without a split, on average.
        path: a folder with rows in .jsonl, .jsonl.gz or .parquet files; null for the folder
            code_contests in $BEYOND_CE_DATA if there is one, else `deepmind/code_contests` from the
            hub.
    """

    name = "code_contests"
    test_splits: tuple[str, ...] = ("test",)

    @takes(
        "dataset",
        cache_dir=PATH,
        max_solutions=NO_LIMIT,
        max_characters=NO_LIMIT,
        validation_share=SHARE,
        test_share=SHARE,
        path=optional(TEXT),
    )
    def __init__(
        self,
        *,
        cache_dir: str | Path,
        max_solutions: int | None,
        max_characters: int | None,
        validation_share: float,
        test_share: float,
        path: str | Path | None = None,
    ) -> None:
        if validation_share + test_share >= 1:
            raise UsageError(
                "dataset.validation_share and dataset.test_share leave nothing to train on: "
                "lower them"
            )
        self.cache_dir = Path(cache_dir)
        self.max_solutions = max_solutions
        self.max_characters = max_characters
        self.shares = {"test": test_share, "validation": validation_share}
        splits = {"train": "train", "validation": "valid", "test": "test"}
        self.rows = BenchmarkRows(self.name, Hub("deepmind/code_contests", None, splits), path)

    def _definition(self) -> dict[str, Any]:
        return {
            "source": self.rows.identity(self.cache_dir),
            "max_solutions": self.max_solutions,
            "max_characters": self.max_characters,
            **self.shares,
        }

    @property
    def hub_name(self) -> str | None:
        return self.rows.hub_name

    def _rows(self) -> Iterator[tuple[str, Iterable[Row]]]:
        for split in ("test", "validation", "train"):
            yield split, self._of_split(split)

    def _of_split(self, split: str) -> Iterator[Row]:
        yield from self.rows.read(split)
        for where, row in self.rows.read(None):
            if self._split_of(text_of(row, "name", where)) == split:
                yield where, row

    def _split_of(self, name: str) -> str:
        uniform = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
        for split, share in self.shares.items():
            if uniform < share:
                return split
            uniform -= share
        return "train"

    def _answers(self, problem: Problem) -> list[tuple[str, str]]:
        most = self.max_solutions
        longest = self.max_characters
        right, wrong = problem.solutions[:most], problem.wrong_solutions[:most]
        pairs = super()._answers(replace(problem, solutions=right, wrong_solutions=wrong))
        return [
            (prompt, text)
            for prompt, text in pairs
            if longest is None or len(prompt) + len(text) <= longest
        ]


def problem_of(row: dict[str, Any], where: str) -> Problem:
    """The problem of a row of CodeContests.

    Raises:
        UsageError: the row lacks a field, or one has another type.
    """
    description = text_of(row, "description", where)
    return Problem(
        id=text_of(row, "name", where),
        prompt=f'"""\n{description}\n"""\n# {CORRECT}\n',
        tests=_tests(row, where),
        stop=STOP,
        solutions=_programs(row, "solutions", where),
        wrong_solutions=_programs(row, "incorrect_solutions", where),
    )


def _programs(row: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """Those in Python 3, without repetitions."""
    group = row.get(key)
    if not isinstance(group, dict):
        raise UsageError(f"{where}: no programs '{key}'; is this the right file?")
    programs = texts_of(group, "solution", f"{where}, {key}")
    languages = group.get("language")
    if not isinstance(languages, list) or len(languages) != len(programs):
        raise UsageError(f"{where}, {key}: not as many languages as programs")
    pairs = zip(languages, programs, strict=True)
    ours = (text.replace("\r\n", "\n").strip("\n") for lang, text in pairs if lang in PYTHON3)
    return tuple(dict.fromkeys(f"{text}\n" for text in ours))


def _tests(row: dict[str, Any], where: str) -> InputOutputTests:
    cases: list[tuple[str, str]] = []
    for key in _TESTS:
        group = row.get(key)
        if not isinstance(group, dict):
            raise UsageError(f"{where}: no tests '{key}'; is this the right file?")
        stdin = texts_of(group, "input", f"{where}, {key}")
        stdout = texts_of(group, "output", f"{where}, {key}")
        if len(stdin) != len(stdout):
            raise UsageError(f"{where}, {key}: not as many outputs as inputs")
        cases += zip(stdin, stdout, strict=True)
    tolerance, relative, grader = _grader(row, where)
    if not cases:
        grader = "no tests"
    memory = _number(row.get("memory_limit_bytes"), f"{where}: memory_limit_bytes") or 0
    return InputOutputTests(
        cases=tuple(cases),
        time_limit_s=_seconds(row.get("time_limit"), f"{where}: time_limit") or TIME_LIMIT_S,
        memory_mb=int(memory) // 2**20 or MEMORY_MB,
        tolerance=tolerance,
        grader=grader,
        relative=relative,
    )


def _grader(row: dict[str, Any], where: str) -> tuple[float | None, bool, str | None]:
    """The tolerance between numbers, whether it is relative, too, and what we cannot do as the
    problem asks."""
    for key, ordinary in (("input_file", "stdin"), ("output_file", "stdout")):
        name = row.get(key)
        if name and name != ordinary:
            return None, True, f"{key} {name}"
    flags = row.get("validator_flags")  # of problems in Kattis' format
    if flags is None:
        return _TOLERANCE, False, None
    words = str(flags).split()
    names, values = words[::2], words[1::2]
    if len(names) != len(values) or not set(names) <= set(_FLAGS):
        return None, True, f"validator {flags}"
    tolerances = [_number(value, f"{where}: validator_flags") for value in values]
    relative = set(names) != {"float_absolute_tolerance"}
    return max((t for t in tolerances if t is not None), default=None), relative, None


def _seconds(value: Any, where: str) -> float | None:
    """A time limit: {seconds, nanos}, a number, or none."""
    if isinstance(value, dict):
        parts = [_number(value.get(key), where) or 0.0 for key in ("seconds", "nanos")]
        return parts[0] + parts[1] / 1e9
    return _number(value, where)


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number < 2**53:
        raise UsageError(f"{where} is {str(value)[:40]!r}: give a positive number")
    return number
