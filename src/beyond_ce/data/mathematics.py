"""DeepMind's mathematics questions with numeric answers, as in the NTL paper's table 1."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from beyond_ce.data.base import PromptAnswerData
from beyond_ce.data.cache import Splits
from beyond_ce.data.example import Example
from beyond_ce.data.files import read_lines
from beyond_ce.data.generation import Generator, Pair, Stream
from beyond_ce.errors import UsageError
from beyond_ce.settings import (
    COUNT,
    FLAG,
    PATH,
    SEED,
    TEXT,
    each,
    one_of,
    optional,
    takes,
    whole,
)
from beyond_ce.storage.content import bytes_digest

log = logging.getLogger(__name__)

DIFFICULTIES = ("easy", "medium", "hard")
_DRAWS_PER_PAIR = 5

PairsOf = Callable[[Stream], Iterator[Pair]]


class Mathematics(PromptAnswerData):
    """Questions of 13 categories at three difficulties, from DeepMind's generator or its files.

    The splits: "interpolate" and "extrapolate" (the generator's own test regimes, the latter with
    larger numbers and longer expressions), "validation" and "train" (equal parts of every category
    and difficulty). No question is in two splits: tests are drawn first, then validation, then
    training, and questions already in use are skipped. Test and validation questions are distinct;
    so are generated training questions within a category and difficulty, while the official files
    keep their repetitions. An example's task is its category.

    A category can have fewer distinct questions than requested (400,000 draws of easy place values
    gave 163,000). After five draws per requested pair we stop, and a warning gives the number.

    NOTE: the paper trains on the files as they are, in which easy test questions reappear:
    `drop_overlap=false` does the same, and logs how many they are.

    Args:
        train_per_difficulty: training pairs of each category and difficulty.
        validation_per_difficulty: validation pairs of each category and difficulty.
        test_size: pairs of each category in each test split.
        difficulties: difficulties of the training and validation pairs: easy, medium, hard.
        seed: the generator's seed; independent of the run's.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
        path: the folder mathematics_dataset-v1.0 with the official files; null to generate.
        drop_overlap: whether to skip training questions that are test or validation questions. If
            not, the pairs after the validation pairs of each official file are all kept.
        num_workers: generator processes; null for one per core. Any number gives the same data.
    """

    name = "mathematics"
    test_splits: tuple[str, ...] = ("interpolate", "extrapolate")
    categories: tuple[str, ...] = (
        "algebra__linear_1d",
        "algebra__linear_1d_composed",
        "algebra__linear_2d",
        "algebra__linear_2d_composed",
        "algebra__sequence_next_term",
        "arithmetic__add_or_sub",
        "arithmetic__add_sub_multiple",
        "arithmetic__mul",
        "numbers__div_remainder",
        "numbers__div_remainder_composed",
        "numbers__place_value",
        "numbers__round_number",
        "numbers__round_number_composed",
    )
    extrapolation: tuple[str, ...] = (
        "arithmetic__add_or_sub_big",
        "arithmetic__add_sub_multiple_longer",
        "arithmetic__mixed_longer",
        "arithmetic__mul_big",
        "arithmetic__mul_div_multiple_longer",
        "numbers__place_value_big",
        "numbers__round_number_big",
    )

    @takes(
        "dataset",
        train_per_difficulty=COUNT,
        validation_per_difficulty=COUNT,
        test_size=COUNT,
        seed=SEED,
        cache_dir=PATH,
        difficulties=each(one_of(*DIFFICULTIES)),
        path=optional(TEXT),
        drop_overlap=FLAG,
        num_workers=optional(whole(1, 2**16)),
    )
    def __init__(
        self,
        *,
        train_per_difficulty: int,
        validation_per_difficulty: int,
        test_size: int,
        seed: int,
        cache_dir: str | Path,
        difficulties: Sequence[str] = DIFFICULTIES,
        path: str | Path | None = None,
        num_workers: int | None = None,
        drop_overlap: bool = True,
    ) -> None:
        self.sizes = {
            "train_per_difficulty": train_per_difficulty,
            "validation_per_difficulty": validation_per_difficulty,
            "test_size": test_size,
        }
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self.num_workers = cores or 1 if num_workers is None else num_workers
        self.difficulties = tuple(difficulties)
        self.drop_overlap = drop_overlap
        self.seed = seed
        self.cache_dir = Path(cache_dir)
        self.path = None if path is None else Path(path).expanduser()
        if self.path is not None:
            self._check_files(self.path)

    def _definition(self) -> dict[str, Any]:
        # Of official files the content matters and not the path, nor the seed, which is not used.
        return {
            "categories": self.categories,
            "extrapolation": self.extrapolation,
            "difficulties": self.difficulties,
            **self.sizes,
            "source": f"official {self._digest}" if self.path else f"seed {self.seed}",
            **({} if self.drop_overlap else {"drop_overlap": False}),
        }

    @cached_property
    def _digest(self) -> str:
        """Of the official files that are read, in the order of the plan."""
        assert self.path is not None
        files = dict.fromkeys(self._official_file(self.path, stream) for stream in self._plan())
        return bytes_digest(files, self.cache_dir)

    def _plan(self) -> list[Stream]:
        """All streams of pairs, in the order in which questions are assigned to splits."""
        test = self.sizes["test_size"]
        return [
            *(Stream("interpolate", "interpolate", name, test) for name in self.categories),
            *(Stream("extrapolate", "extrapolate", name, test) for name in self.extrapolation),
            *(
                Stream(split, f"train-{level}", name, self.sizes[f"{split}_per_difficulty"])
                for split in ("validation", "train")
                for level in self.difficulties
                for name in self.categories
            ),
        ]

    def _splits(self) -> Splits:
        plan = self._plan()
        held_out: set[str] = set()
        progress = tqdm(
            total=sum(stream.wanted for stream in plan),
            desc=f"{'reading' if self.path else 'generating'} {self.name}",
            unit=" pairs",
            unit_scale=True,
            disable=None,  # no bar in a log file
        )
        with progress, self._source(plan) as pairs_of:
            for split, streams in itertools.groupby(plan, lambda stream: stream.split):
                yield split, self._examples(streams, pairs_of, held_out, progress)

    def _examples(
        self, streams: Iterator[Stream], pairs_of: PairsOf, held_out: set[str], progress: tqdm
    ) -> Iterator[Example]:
        total = overlap = 0
        as_they_are = self.path is not None and not self.drop_overlap
        for stream in streams:
            training = stream.split == "train"
            repeats_allowed = training and self.path is not None
            seen: set[str] = set()
            kept = 0
            # Without a bound, a category that runs out of questions would be drawn from forever.
            bound = None if self.path else _DRAWS_PER_PAIR * stream.wanted
            # Validation pairs come from the same files, before the training pairs.
            first = self.sizes["validation_per_difficulty"] if training and as_they_are else 0
            for question, answer in itertools.islice(pairs_of(stream), first, bound):
                held = question in held_out
                skipped = held and (self.drop_overlap or not training)
                if not as_they_are and (skipped or question in seen):
                    continue
                overlap += training and held
                if not training:
                    held_out.add(question)
                elif not repeats_allowed:
                    seen.add(question)
                yield Example(question, answer, stream.module)
                progress.update()
                kept += 1
                if kept == stream.wanted:
                    break
            else:
                log.warning(
                    "%s of %s (%s): found only %d of the %d questions requested",
                    *(stream.module, stream.split, stream.regime, kept, stream.wanted),
                )
            total += kept
        if overlap:
            log.warning(
                "%d of %d training questions are test or validation questions as well: "
                "dataset.drop_overlap=false keeps them",
                *(overlap, total),
            )

    def _source(self, plan: list[Stream]) -> AbstractContextManager[PairsOf]:
        if self.path is not None:
            return contextlib.nullcontext(self._official_pairs)
        return self._generated(plan)

    @contextlib.contextmanager
    def _generated(self, plan: list[Stream]) -> Iterator[PairsOf]:
        with Generator(plan, self.seed, self.num_workers) as generator:
            yield generator.pairs

    def _official_file(self, path: Path, stream: Stream) -> Path:
        return path / stream.regime / f"{stream.module}.txt"

    def _check_files(self, path: Path) -> None:
        if not path.is_dir():
            raise UsageError(
                f"dataset.path={path} is not a folder; give the unpacked mathematics_dataset-v1.0, "
                "or null to generate the data"
            )
        for stream in self._plan():
            file = self._official_file(path, stream)
            if not file.is_file():
                raise UsageError(f"dataset.path={path} has no file {file.relative_to(path)}")

    def _official_pairs(self, stream: Stream) -> Iterator[Pair]:
        assert self.path is not None
        file = self._official_file(self.path, stream)
        lines = (line for _, line in read_lines(file))
        question = None
        for question, answer in itertools.zip_longest(lines, lines):
            if answer is None:
                raise UsageError(f"{file} ends in a question without answer: fetch it again")
            yield question, answer
        if question is None:
            raise UsageError(f"{file} is empty: fetch it again")
