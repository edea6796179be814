"""The base classes of data sets whose answers are programs that tests can judge."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from beyond_ce.data.base import PackedData, PromptAnswerData
from beyond_ce.data.cache import Splits, load_or_write
from beyond_ce.data.example import Example
from beyond_ce.data.programs.problem import Problem
from beyond_ce.data.sampling import bit_generator, sample_distinct
from beyond_ce.errors import UsageError
from beyond_ce.settings import FLAG, PATH, takes, whole

if TYPE_CHECKING:
    import datasets

_ROWS_PER_BATCH = 100  # of the Arrow files; a problem of CodeContests has megabytes of tests


class HasProblems(Protocol):
    """What can be judged by running programs."""

    def problems(self, split: str) -> list[Problem]:
        """The tasks of a split with their tests.

        Raises:
            UsageError: there is no such split, or it cannot be read.
        """


@dataclass(frozen=True)
class ProgramExample(Example):
    """A prompt and a program that follows it.

    Attributes:
        problem: the task with its tests as JSON, see `Problem`; "" in training, and in the
            validation split at all rows of a task but the first.
    """

    problem: str = ""


@dataclass(frozen=True)
class _Document:
    text: str
    task: str
    problem: str


class ProgramData(PromptAnswerData):
    """Programs that answer a prompt, with the tests of held-out tasks in the column `problem`.

    A subclass implements `_definition` and `_problems`. Training has a row for every known solution
    of a task, and so has validation, which measures the loss on them: a task without one has no row
    there. Test splits have one row per task.
    """

    columns = (*PromptAnswerData.columns, "problem")

    @abstractmethod
    def _problems(self) -> Iterator[tuple[str, Iterable[Problem]]]:
        """Yields each split's name and its tasks, read or made only as they are asked for."""

    def _answers(self, problem: Problem) -> list[tuple[str, str]]:
        """Prompts and what follows them in training: here the prompt and every solution."""
        return [(problem.prompt, text.removeprefix(problem.prefix)) for text in problem.solutions]

    def _task(self, problem: Problem) -> str:
        """The kind of the problem, by which scores are broken down."""
        return self.name

    def problems(self, split: str) -> list[Problem]:
        """The tasks of a split with their tests, those of training too.

        Raises:
            UsageError: there is no such split, or a file cannot be used.
        """
        known = []
        for name, problems in self._problems():
            if name == split:
                return list(problems)
            known.append(name)
        raise UsageError(
            f"dataset {self.name} has no split '{split}' with problems; it has {', '.join(known)}"
        )

    def _splits(self) -> Splits:
        empty = set(self.test_splits)
        for split, problems in self._problems():
            examples = self._examples(split, problems)
            if (first := next(examples, None)) is not None:  # a split without rows is left out
                empty.discard(split)
                yield split, itertools.chain([first], examples)
        if empty:
            raise UsageError(
                f"dataset {self.name} has no problem in the split '{min(empty)}': give its files"
            )

    def _examples(self, split: str, problems: Iterable[Problem]) -> Iterator[ProgramExample]:
        held_out = split != "train"
        for problem in problems:
            answers = self._answers(problem)
            if split not in ("train", "validation"):  # a problem to write a program for
                answers = answers[:1] or [(problem.prompt, "")]
            for number, (prompt, answer) in enumerate(answers):
                tests = problem.to_json() if held_out and not number else ""
                yield ProgramExample(prompt, answer, self._task(problem), tests)

    def load(self) -> dict[str, datasets.Dataset]:
        return load_or_write(self.cache_folder, self._splits, self.columns, _ROWS_PER_BATCH)


class PackedPrograms(PackedData):
    """Programs as documents, for models that train on packed rows: each prompt and its program.

    Args:
        data: the programs; their splits and tests stay as they are.
        sequence_length: tokens that a model reads at once: the length of a training row.
        shuffled: in training and validation, documents in random order, always the same. Otherwise
            the programs of one problem share a row, and a model that sees the one can copy it into
            the other without reading the problem.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
    """

    columns = ("text", "task", "problem")

    @takes("dataset", sequence_length=whole(1, 2**24), shuffled=FLAG, cache_dir=PATH)
    def __init__(
        self,
        *,
        data: ProgramData,
        sequence_length: int,
        cache_dir: str | Path,
        shuffled: bool = False,
    ) -> None:
        self.data = data
        self.name = f"{data.name}_packed"
        self.test_splits = data.test_splits
        self.sequence_length = sequence_length
        self.shuffled = shuffled
        self.cache_dir = Path(cache_dir)

    def _definition(self) -> dict[str, Any]:
        # Without sequence_length: the documents do not depend on it.
        definition: dict[str, Any] = {"packed": self.data.fingerprint()}
        return definition | ({"shuffled": True} if self.shuffled else {})

    @property
    def hub_name(self) -> str | None:
        return self.data.hub_name

    def problems(self, split: str) -> list[Problem]:
        """As for `ProgramData`."""
        return self.data.problems(split)

    def load(self) -> dict[str, datasets.Dataset]:
        return load_or_write(self.cache_folder, self._splits, self.columns, _ROWS_PER_BATCH)

    def _splits(self) -> Splits:
        for split, rows in self.data.load().items():
            if self.shuffled and split not in self.test_splits:
                rows = rows.select(sample_distinct(bit_generator(0), len(rows), len(rows)))
            yield split, map(_document, rows)


def _document(row: dict[str, str]) -> _Document:
    return _Document(row["prompt"] + row["answer"], row["task"], row["problem"])
