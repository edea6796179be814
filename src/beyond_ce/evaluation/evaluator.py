"""The base class of evaluators, their input and output, and checks that several of them need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch

from beyond_ce.errors import UsageError
from beyond_ce.generation import answer, generate
from beyond_ce.settings import COUNT, NO_LIMIT, takes

if TYPE_CHECKING:
    import datasets
    from omegaconf import DictConfig

    from beyond_ce.models.base import LanguageModel
    from beyond_ce.tokenizers.base import Tokenizer

_LOGITS_AT_ONCE = 2**25  # 128 MiB in float32
_ROOM = 10  # new tokens beyond the longest answer


@dataclass(frozen=True)
class Subject:
    """The model to be evaluated, its tokenizer, and the device to run it on.

    Evaluators move the model to the device.

    Attributes:
        folder: where an evaluator may keep what it has computed so far, to go on after a kill; None
            for nowhere.
        start: tokens that every text starts with.
        end_ids: tokens that end a text; None for the tokenizer's `eos_id`.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    device: torch.device | str
    folder: Path | None = None
    start: Sequence[int] = ()
    end_ids: Sequence[int] | None = None

    @property
    def ends(self) -> list[int]:
        """The tokens that end a text."""
        return [self.tokenizer.eos_id] if self.end_ids is None else list(self.end_ids)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluator returns.

    Attributes:
        metrics: name to value; a metric that is not defined on these examples is left out.
        predictions: one line per example, in the order of the examples; or per sample.
    """

    metrics: dict[str, float]
    predictions: pd.DataFrame


class Evaluator(ABC):
    """Scores a model on examples; `conf/evaluator/` names such classes."""

    columns: ClassVar[tuple[str, ...]]
    """The columns of the examples that it reads, besides `task`."""
    data_set: ClassVar[str | None] = None
    """The option of `dataset` to advise if a column is missing; None where any with it will do."""
    needs_drafts: ClassVar[bool] = False
    """Whether a model of several heads must be able to decode with all of them."""
    judges_answers: ClassVar[bool] = False
    """Whether it also scores answers that come from no model (see `NumberAnswers.judge`)."""

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The columns that an evaluator with this config will read, known before it is built."""
        return cls.columns

    @classmethod
    def pass_on(cls, config: DictConfig, before: DictConfig) -> DictConfig:
        """The config of an evaluator with parts, with its changed settings passed on to them.

        Args:
            config: resolved, with overrides.
            before: the same without them.
        """
        return config

    def environment(self) -> dict[str, str]:
        """What its numbers depend on besides model, data and settings, for the report."""
        return {}

    def tidy(self, folder: Path) -> None:  # noqa: B027 - most keep nothing
        """Removes from `Subject.folder` what the predictions have, once they have been written."""

    @abstractmethod
    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """The subject's metrics on all examples together, and its predictions.

        Raises:
            UsageError: the evaluator cannot score this subject or these examples.
        """


class AnswerEvaluator(Evaluator):
    """Generates an answer to every prompt; subclasses score the answers.

    Args:
        batch_size: prompts generated together; changes speed and memory only.
        max_new_tokens: longest answer in tokens, the end-of-sequence token included. None for ten
            tokens more than the longest answer of the examples has, as in the NTL paper's code,
            which counts from the longest answer of each batch.
        num_beams: width of the beam search, 1 for greedy. The paper generates with 4.
        max_examples: score only this many examples, spread evenly over the split to cover all
            tasks, and the same in every run; None for all.
    """

    columns = ("prompt", "answer")

    @takes(
        "evaluator",
        batch_size=COUNT,
        max_new_tokens=NO_LIMIT,
        num_beams=COUNT,
        max_examples=NO_LIMIT,
    )
    def __init__(
        self,
        batch_size: int,
        max_new_tokens: int | None,
        num_beams: int = 1,
        max_examples: int | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self.num_beams = num_beams
        self.max_examples = max_examples

    def answers(self, subject: Subject, examples: datasets.Dataset) -> pd.DataFrame:
        """A frame with prompt, answer and task of the (at most `max_examples`) examples, and the
        generated text as prediction."""
        examples = subsample(examples, self.max_examples)
        answers = answer(
            subject.model,
            subject.tokenizer,
            list(examples["prompt"]),
            device=subject.device,
            max_new_tokens=self.longest(subject.tokenizer, examples),
            num_beams=self.num_beams,
            batch_size=self.batch_size,
        )
        return _with_predictions(examples, answers)

    def written(
        self, subject: Subject, examples: datasets.Dataset, prompts: list[list[int]]
    ) -> pd.DataFrame:
        """A frame like that of `answers`, and in `finished` whether the model ended its text.

        Args:
            prompts: what the model reads for each example, in tokens.

        Raises:
            UsageError: the model does not predict tokens, or a prompt does not fit it.
        """
        check_predicts_tokens(subject.model)
        rows = generate(
            subject.model.to(subject.device),
            prompts,
            max_new_tokens=self.longest(subject.tokenizer, examples),
            eos_id=subject.tokenizer.eos_id,
            num_beams=self.num_beams,
            batch_size=self.batch_size,
        ).tokens
        texts = [subject.tokenizer.decode(row) for row in rows]
        ended = [row[-1:] == [subject.tokenizer.eos_id] for row in rows]
        return _with_predictions(examples, texts).assign(finished=ended)

    def longest(self, tokenizer: Tokenizer, examples: datasets.Dataset) -> int:
        """`max_new_tokens`, or what stands for None with these examples."""
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        return _ROOM + 1 + max(map(len, tokenizer.encode(list(examples["answer"]))))


def _with_predictions(examples: datasets.Dataset, texts: list[str]) -> pd.DataFrame:
    columns = {name: list(examples[name]) for name in ("prompt", "answer", "task")}
    return pd.DataFrame({**columns, "prediction": texts})


def subsample(examples: datasets.Dataset, most: int | None) -> datasets.Dataset:
    """At most `most` of the examples, evenly spread; all of them for None."""
    if most is None or len(examples) <= most:
        return examples
    return examples.select(spread(len(examples), most))


def spread(count: int, most: int | None) -> list[int]:
    """At most `most` of the places 0 to `count` - 1, evenly spread; all of them for None."""
    if most is None or count <= most:
        return list(range(count))
    places: list[int] = np.linspace(0, count - 1, most).round().astype(int).tolist()
    return places


def shared_start(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two lists have in common at their start."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def contexts(
    documents: Sequence[Sequence[int]], length: int, following: int, most: int
) -> list[tuple[int, int]]:
    """Document and end of at most `most` contexts, spread evenly over the documents.

    A context is `length` tokens of a document in front of its end, and at least `following` tokens
    come after them.
    """
    counts = [max(0, len(document) - length - following + 1) for document in documents]
    starts = np.cumsum([0, *counts])
    chosen = np.array(spread(int(starts[-1]), most), dtype=int)
    rows = np.searchsorted(starts, chosen, side="right") - 1
    return list(zip(rows.tolist(), (chosen - starts[rows] + length).tolist(), strict=True))


def positions_at_once(model: LanguageModel) -> int:
    """How many positions to compute logits [P, V] for at once, so that they fit into memory."""
    return max(1, _LOGITS_AT_ONCE // model.vocab_size)


def check_predicts_tokens(model: LanguageModel) -> None:
    """Raises a UsageError unless the model's head predicts tokens."""
    if model.head.target != "tokens":
        raise UsageError(
            f"the model's head predicts {model.head.target}, this evaluator needs one that "
            "predicts tokens: choose head=lm, or another evaluator"
        )


def check_predicts_ahead(model: LanguageModel) -> None:
    """Raises a UsageError if heads 2 and on also read the tokens before the one they predict."""
    if model.head.reads_tokens:
        raise UsageError(
            f"heads 2 to {model.head.n} of {type(model.head).__name__} also read the tokens in "
            "between, this evaluator needs heads that do not: choose head=multi_token"
        )


def check_context(model: LanguageModel, length: int, name: str) -> None:
    """Raises a UsageError if the model cannot read `length` tokens, the value of the setting
    `name`."""
    if model.max_length is not None and length > model.max_length:
        raise UsageError(
            f"{name}={length} exceeds the model's context of {model.max_length} tokens: lower it"
        )
