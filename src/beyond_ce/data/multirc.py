"""Reading comprehension as generation: the NTL paper's test that its loss does not hurt text."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from beyond_ce.data.base import PromptAnswerData
from beyond_ce.data.cache import Splits
from beyond_ce.data.example import Example
from beyond_ce.data.files import RowSource
from beyond_ce.errors import UsageError
from beyond_ce.settings import COUNT, NO_LIMIT, PATH, SEED, TEXT, optional, takes

log = logging.getLogger(__name__)

SEPARATOR = " | "
"""Joins the correct answers of a question. Many answers have commas, some have semicolons."""

_MARKUP = re.compile("<b>Sent [0-9]+: </b>|<br>")


@dataclass(frozen=True)
class Question:
    """A question about a passage, and its correct answers."""

    passage: str
    question: str
    answers: tuple[str, ...]


class MultiRC(PromptAnswerData):
    """SuperGLUE's MultiRC (Khashabi et al. 2018; Wang et al. 2019), without the wrong choices.

    Prompt: the passage, an empty line and `Question: ...`. Answer: all correct answers in the
    file's order, joined by `SEPARATOR`. Both formats are the NTL paper's. Questions without a
    correct answer are dropped (26 of 6,084), and a warning counts them.

    SuperGLUE withholds the labels of its test file. So its validation file is the test split "test"
    here, and our validation split is a number of passages from the training file.

    Args:
        validation_size: training passages held out, with all their questions.
        seed: draws the held-out passages; independent of the run's seed.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
        max_prompt_words: longest prompt in words; longer passages are cut, questions are not.
            null keeps all passages in full (up to about 450 words).
        path: a folder with train.jsonl and val.jsonl (SuperGLUE's own nested rows, or the hub's
            flat ones), plain or .gz; null for the folder multirc in $BEYOND_CE_DATA if there is
            one, else `super_glue` from the hub.
    """

    name = "multirc"
    test_splits: tuple[str, ...] = ("test",)

    @takes(
        "dataset",
        validation_size=COUNT,
        seed=SEED,
        cache_dir=PATH,
        max_prompt_words=NO_LIMIT,
        path=optional(TEXT),
    )
    def __init__(
        self,
        *,
        validation_size: int,
        seed: int,
        cache_dir: str | Path,
        max_prompt_words: int | None = None,
        path: str | Path | None = None,
    ) -> None:
        self.validation_size = validation_size
        self.max_prompt_words = max_prompt_words
        self.seed = seed
        self.cache_dir = Path(cache_dir)
        splits = {"train": ("train",), "validation": ("val", "validation")}
        self.rows = RowSource(self.name, ("super_glue", "multirc"), splits, path)

    def _definition(self) -> dict[str, Any]:
        return {
            "source": self.rows.identity(self.cache_dir),
            "seed": self.seed,
            "validation_size": self.validation_size,
            "max_prompt_words": self.max_prompt_words,
        }

    @property
    def hub_name(self) -> str | None:
        return self.rows.hub_name

    def _splits(self) -> Splits:
        yield "test", self._examples(self._questions("validation"))
        questions = self._questions("train")
        passages = list(dict.fromkeys(question.passage for question in questions))
        if self.validation_size >= len(passages):
            raise UsageError(
                f"dataset.validation_size={self.validation_size} leaves none of the "
                f"{len(passages)} training passages to train on: lower it"
            )
        order = np.random.default_rng(self.seed).permutation(len(passages))
        held_out = {passages[i] for i in order[: self.validation_size]}
        yield "validation", self._examples([q for q in questions if q.passage in held_out])
        yield "train", self._examples([q for q in questions if q.passage not in held_out])

    def _questions(self, split: str) -> list[Question]:
        """The questions of a split that have a correct answer."""
        questions = [_question(choices) for choices in _by_question(self.rows.read(split))]
        answered = [question for question in questions if question.answers]
        if dropped := len(questions) - len(answered):
            log.warning(
                "multirc, %s: %d of %d questions have no correct answer and are dropped",
                *(split, dropped, len(questions)),
            )
        return answered

    def _examples(self, questions: list[Question]) -> Iterator[Example]:
        for question in questions:
            prompt = self._prompt(question.passage, f"Question: {question.question}")
            yield Example(prompt, SEPARATOR.join(question.answers), self.name)

    def _prompt(self, passage: str, question: str) -> str:
        if self.max_prompt_words is not None:
            words = passage.split()
            kept = max(0, self.max_prompt_words - len(question.split()))
            if kept < len(words):
                passage = " ".join(words[:kept])
        return f"{passage}\n\n{question}".lstrip()


@dataclass(frozen=True)
class _Choice:
    """One candidate answer, with its question and passage."""

    question_id: tuple[int, int]
    passage: str
    question: str
    answer: str
    correct: bool


def _by_question(rows: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[list[_Choice]]:
    choices = (choice for where, row in rows for choice in _choices(where, row))
    for _, of_question in groupby(choices, key=lambda choice: choice.question_id):
        yield list(of_question)


def _question(choices: list[_Choice]) -> Question:
    first = choices[0]
    return Question(first.passage, first.question, tuple(c.answer for c in choices if c.correct))


def _choices(where: str, row: dict[str, Any]) -> Iterator[_Choice]:
    """The choices of a row: many in SuperGLUE's nested form, one in the hub's flat form."""
    try:
        if "passage" in row:
            for question in row["passage"]["questions"]:
                for answer in question["answers"]:
                    yield _choice(
                        where,
                        (row["idx"], question["idx"]),
                        row["passage"]["text"],
                        question["question"],
                        answer["text"],
                        answer.get("label"),
                    )
        else:
            yield _choice(
                where,
                (row["idx"]["paragraph"], row["idx"]["question"]),
                row["paragraph"],
                row["question"],
                row["answer"],
                row.get("label"),
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{where} is not a row of MultiRC: {error!r}") from error


def _choice(
    where: str, question_id: tuple[int, int], passage: str, question: str, answer: str, label: Any
) -> _Choice:
    if label not in (0, 1):
        raise UsageError(f"{where}: an answer has no label, 0 or 1; is this the test file?")
    passage = " ".join(_MARKUP.sub(" ", passage).split())
    return _Choice(question_id, passage, question.strip(), answer.strip(), label == 1)
