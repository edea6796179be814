"""Generates an answer to every prompt and scores the numbers in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch

from beyond_ce.data.numbers import CLIP, last_number, magnitude, same_number
from beyond_ce.errors import UsageError, check_at_least_one
from beyond_ce.evaluation.metrics import DISTANCES
from beyond_ce.generation import answer

if TYPE_CHECKING:
    import datasets

    from beyond_ce.models.base import LanguageModel
    from beyond_ce.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class Evaluation:
    """What an evaluator found.

    Attributes:
        metrics: name to value; a metric that is not defined on these examples is left out.
        predictions: one line per example, in the order of the examples.
    """

    metrics: dict[str, float]
    predictions: pd.DataFrame


def check_columns(evaluator: Any, examples: datasets.Dataset) -> None:
    """Raises a UsageError unless the examples have the `columns` that the evaluator reads."""
    if missing := set(evaluator.columns) - set(examples.column_names):
        raise UsageError(
            f"evaluator {type(evaluator).__name__} reads '{sorted(missing)[0]}', and the data set "
            f"has {', '.join(examples.column_names)}: choose evaluator=held_out for a corpus, "
            "evaluator=number_answers for prompts and answers"
        )


class AnswerEvaluator(ABC):
    """Generates an answer to every prompt; a subclass says what the answers are worth.

    Args:
        batch_size: prompts generated together; changes speed and memory only.
        max_new_tokens: longest answer in tokens, the end-of-sequence token included.
        num_beams: width of the beam search, 1 for greedy. The paper generates with 4.
        max_examples: score only this many examples, spread evenly over the split so that every
            task is met, and the same ones in every run; None for all.
    """

    columns: ClassVar[tuple[str, ...]] = ("prompt", "answer")

    def __init__(
        self,
        batch_size: int,
        max_new_tokens: int,
        num_beams: int = 1,
        max_examples: int | None = None,
    ) -> None:
        check_at_least_one(
            "evaluator",
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
            max_examples=max_examples,
        )
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self.num_beams = num_beams
        self.max_examples = max_examples

    @abstractmethod
    def __call__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        examples: datasets.Dataset,
        device: torch.device | str,
    ) -> Evaluation:
        """Answers `examples` (columns prompt, answer, task) on `device` and scores the answers."""

    def answers(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        examples: datasets.Dataset,
        device: torch.device | str,
    ) -> pd.DataFrame:
        """Columns prompt, answer and task of the (at most `max_examples`) examples, and prediction,
        the text generated."""
        examples = spread(examples, self.max_examples)
        answers = answer(
            model,
            tokenizer,
            list(examples["prompt"]),
            device=device,
            max_new_tokens=self.max_new_tokens,
            num_beams=self.num_beams,
            batch_size=self.batch_size,
        )
        return pd.DataFrame(
            {
                "prompt": list(examples["prompt"]),
                "answer": list(examples["answer"]),
                "task": list(examples["task"]),
                "prediction": answers,
            }
        )


class NumberAnswers(AnswerEvaluator):
    """Scores answers that are one number each (see `score` for the metrics).

    Args:
        clip: the largest magnitude that a number counts with. The paper's 1e10 is too small where
            answers are larger.
        settings: as for `AnswerEvaluator`.
    """

    def __init__(self, *, clip: float = CLIP, **settings: Any) -> None:
        super().__init__(**settings)
        if not clip > 0:
            raise UsageError(f"evaluator.clip={clip}: give a number above 0")
        self.clip = clip

    def __call__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        examples: datasets.Dataset,
        device: torch.device | str,
    ) -> Evaluation:
        return self.judge(self.answers(model, tokenizer, examples, device))

    def judge(self, answers: pd.DataFrame) -> Evaluation:
        """Scores answers as `answers` gives them, wherever they come from."""
        predictions = read_numbers(answers, clip=self.clip)
        return Evaluation(score(predictions), predictions)


def spread(examples: datasets.Dataset, most: int | None) -> datasets.Dataset:
    """At most `most` of the examples, evenly spread; None for all."""
    if most is None or len(examples) <= most:
        return examples
    return examples.select(np.linspace(0, len(examples) - 1, most).round().astype(int))


def read_numbers(
    predictions: pd.DataFrame,
    number_in: Callable[[str], str | None] = last_number,
    clip: float = CLIP,
) -> pd.DataFrame:
    """Adds predicted_number and target_number, floats clipped to +-`clip`, and verdicts.

    `number_in` finds the number in an answer or prediction, None where there is none.

    The verdicts are `correct`, `invalid` (no number in the text), `wrong_length` (a number of more
    or fewer characters than the target's) and `clipped` (a number beyond +-`clip`); the last two
    are never true for an invalid answer.

    Raises:
        UsageError: an answer holds no number, so that this evaluator cannot score it.
    """
    predicted = [number_in(text) for text in predictions["prediction"]]
    targets = []
    for text in predictions["answer"]:
        target = number_in(text)
        if target is None:
            raise UsageError(
                f"the answer {text!r} is no number that this evaluator can read: "
                "choose another evaluator"
            )
        targets.append(target)
    pairs = list(zip(predicted, targets, strict=True))
    return predictions.assign(
        predicted_number=np.array([magnitude(p, clip) for p in predicted], dtype=np.float64),
        target_number=np.array([magnitude(t, clip) for t in targets], dtype=np.float64),
        correct=np.array([p is not None and same_number(p, t) for p, t in pairs], dtype=bool),
        invalid=np.array([p is None for p in predicted], dtype=bool),
        wrong_length=np.array([p is not None and len(p) != len(t) for p, t in pairs], dtype=bool),
        clipped=np.array([p is not None and abs(float(p)) > clip for p in predicted], dtype=bool),
    )


def score(predictions: pd.DataFrame) -> dict[str, float]:
    """Metrics of a frame from `read_numbers`.

    `accuracy`, `invalid`, `wrong_length` and `clipped` are shares of all examples: an answer
    without a number is wrong. The distances of `metrics.DISTANCES` are over the answers that hold a
    number. With more than one task there are also `accuracy@<task>` and so on, and
    `task_mean_accuracy` and so on: the unweighted mean over the tasks where the metric is defined,
    as in the paper's table 1.
    """
    scores = _score_one(predictions)
    if predictions["task"].nunique() > 1:
        tasks = {str(task): _score_one(lines) for task, lines in predictions.groupby("task")}
        scores |= {f"{name}@{task}": v for task, own in tasks.items() for name, v in own.items()}
        scores |= {
            f"task_mean_{name}": value
            for name, value in pd.DataFrame(tasks).mean(axis="columns").items()
        }
    return {name: value for name, value in scores.items() if np.isfinite(value)}


def _score_one(predictions: pd.DataFrame) -> dict[str, float]:
    scores = {
        name: float(predictions[column].mean())
        for name, column in [
            ("accuracy", "correct"),
            ("invalid", "invalid"),
            ("wrong_length", "wrong_length"),
            ("clipped", "clipped"),
        ]
    }
    valid = predictions[~predictions["invalid"]]
    predicted = valid["predicted_number"].to_numpy()
    target = valid["target_number"].to_numpy()
    return scores | {name: distance(predicted, target) for name, distance in DISTANCES.items()}
