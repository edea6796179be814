"""MBPP: short functions from one sentence and three asserts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from beyond_ce.data.files import text_of
from beyond_ce.data.programs.base import ProgramData
from beyond_ce.data.programs.problem import FunctionTests, Problem
from beyond_ce.data.programs.rows import BenchmarkRows, Hub, code_of, texts_of
from beyond_ce.errors import UsageError
from beyond_ce.settings import PATH, TEXT, optional, takes

TASKS = {
    "test": range(11, 511),
    "validation": range(511, 601),
    "train": range(601, 975),
    "prompt": range(1, 11),
}
"""The numbers of each split's tasks (Austin et al. 2021, section 2.1)."""

STOP = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif")


class MBPP(ProgramData):
    '''MBPP (Austin et al. 2021, arXiv 2108.07732): 974 functions, of which 500 are for testing.

    Prompt: a docstring with the task's sentence and its three asserts, as in the MTP paper:

        """
        Write a function to find the shared elements from the given two lists.
        assert ...
        """

    Answer: the authors' program. Splits: "test", "validation", "train", and "prompt" for
    demonstrations. The tests are those asserts; the few that the authors call challenges are not
    used.

    Args:
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
        path: a folder with all tasks in .jsonl, .jsonl.gz or .parquet files; null for the folder
            mbpp in $BEYOND_CE_DATA if there is one, else `google-research-datasets/mbpp` from the
            hub.
    '''

    name = "mbpp"
    test_splits: tuple[str, ...] = ("test",)

    @takes("dataset", cache_dir=PATH, path=optional(TEXT))
    def __init__(self, *, cache_dir: str | Path, path: str | Path | None = None) -> None:
        self.cache_dir = Path(cache_dir)
        hub = Hub("google-research-datasets/mbpp", "full", {split: split for split in TASKS})
        self.rows = BenchmarkRows(self.name, hub, path)

    def _definition(self) -> dict[str, Any]:
        return {"source": self.rows.identity(self.cache_dir)}

    @property
    def hub_name(self) -> str | None:
        return self.rows.hub_name

    def _problems(self) -> Iterator[tuple[str, Iterable[Problem]]]:
        problems: dict[int, Problem] = {}
        for where, row in self.rows.read_all():
            number = row.get("task_id")
            if type(number) is not int:
                raise UsageError(f"{where}: no number 'task_id'; is this the right file?")
            if number in problems:
                raise UsageError(f"{where}: task {number} is there twice: keep one file of tasks")
            problems[number] = _problem(row, where)
        for split, numbers in TASKS.items():
            found = [problems[number] for number in numbers if number in problems]
            if found:
                yield split, found


def _problem(row: dict[str, Any], where: str) -> Problem:
    asserts = "\n".join(text.replace("\r\n", "\n") for text in texts_of(row, "test_list", where))
    setup = code_of(row, "test_setup_code", where)
    return Problem(
        id=f"MBPP/{row['task_id']}",
        prompt=f'"""\n{text_of(row, "text", where)}\n{asserts}\n"""\n',
        tests=FunctionTests(f"{setup}\n{asserts}\n".lstrip("\n"), None),
        stop=STOP,
        solutions=(code_of(row, "code", where).rstrip() + "\n",),
    )
