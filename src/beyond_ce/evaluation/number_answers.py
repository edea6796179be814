"""Scores answers that are one number each: accuracy, and how far off they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from beyond_ce.data.numbers import CLIP, last_number, magnitude, plain, rounded, same_number
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import AnswerEvaluator, Evaluation, Subject
from beyond_ce.evaluation.metrics import DISTANCES, capped
from beyond_ce.settings import FLAG, number, optional, takes, whole

if TYPE_CHECKING:
    import datasets


class NumberAnswers(AnswerEvaluator):
    """Scores answers that are one number each (see `score` for the metrics).

    Args:
        clip: numbers are clipped to +-`clip`. The default, the paper's 1e10, is too small for
            larger answers.
        decimals: round predicted numbers to so many decimals, for models that predict a number
            instead of its digits; None does not round. The reference scoring rounds each to the
            decimals of its answer then.
        reference: also score as the NTL paper's code does (see `reference_scores`).
        settings: as for `AnswerEvaluator`.
    """

    judges_answers = True

    @takes(
        "evaluator",
        clip=number(above=0),
        decimals=optional(whole(0, 300)),
        reference=FLAG,
    )
    def __init__(
        self,
        *,
        clip: float = CLIP,
        decimals: int | None = None,
        reference: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.clip = clip
        self.decimals = decimals
        self.reference = reference

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        return self.judge(self.answers(subject, examples))

    def judge(self, answers: pd.DataFrame) -> Evaluation:
        """Scores a frame like that of `answers`, which need not come from a model."""
        texts = answers["prediction"]
        if self.decimals is not None:
            texts = texts.map(lambda text: rounded(last_number(text), self.decimals or 0) or text)
        predictions = read_numbers(answers.assign(prediction=texts), clip=self.clip)
        metrics = score(predictions)
        if self.reference:
            metrics |= reference_scores(answers, rounds=self.decimals is not None)
        return Evaluation(metrics, predictions)


def read_numbers(
    predictions: pd.DataFrame,
    number_in: Callable[[str], str | None] = last_number,
    clip: float = CLIP,
) -> pd.DataFrame:
    """Adds predicted_number and target_number, floats clipped to +-`clip`, and verdicts.

    `number_in` finds the number in an answer or prediction, or returns None.

    The verdicts are `correct`, `invalid` (no number in the text), `wrong_length` (a number of more
    or fewer characters than the target's) and `clipped` (a number beyond +-`clip`); the last two
    are never true for an invalid answer.

    Raises:
        UsageError: an answer holds no number, so this evaluator cannot score it.
    """
    predicted = [number_in(text) for text in predictions["prediction"]]
    targets = []
    for text in predictions["answer"]:
        target = number_in(text)
        if target is None:
            raise UsageError(
                f"the answer {text!r} holds no number that this evaluator can read: "
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

    `accuracy`, `within_1` (off by at most 1), `invalid`, `wrong_length`, `clipped` and `outliers`
    (beyond the cap of `metrics.capped`) are shares of all examples: an answer without a number is
    wrong. The distances of `metrics.DISTANCES` are over the answers that hold a number. With more
    than one task there are also `accuracy@<task>` and so on, and `task_mean_accuracy` and so on:
    the unweighted mean over the tasks where the metric is defined, as in the paper's
    table 1.
    """
    scores = _metrics(predictions)
    if predictions["task"].nunique() > 1:
        tasks = {str(task): _metrics(lines) for task, lines in predictions.groupby("task")}
        scores |= {
            f"{name}@{task}": v for task, values in tasks.items() for name, v in values.items()
        }
        scores |= {
            f"task_mean_{name}": value
            for name, value in pd.DataFrame(tasks).mean(axis="columns").items()
        }
    return {name: value for name, value in scores.items() if np.isfinite(value)}


def _metrics(predictions: pd.DataFrame) -> dict[str, float]:
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
    near = np.abs(predicted - target) <= 1
    outliers = capped(predicted, target) != predicted
    scores |= {
        "within_1": float(near.sum() / len(predictions)),
        "outliers": float(outliers.sum() / len(predictions)),
    }
    return scores | {name: distance(predicted, target) for name, distance in DISTANCES.items()}


_REFERENCE_NUMBER = re.compile(r"[+-]?\s*[0-9]+(?:\.[0-9]+)?")
_NOT_OF_THE_REFERENCE = ("wrong_length", "within_1", "outliers", "capped")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")


def reference_scores(answers: pd.DataFrame, rounds: bool = False) -> dict[str, float]:
    """The metrics of `score` by the rules of the NTL paper's own code, as `reference_<name>`.

    It reads the last number of a text, where a sign right before the digits is always theirs:
    "12-5" ends in -5. Predictions are clipped to +-1e10 and targets are not. A prediction is right
    within a tolerance of 1e-8 + 1e-5 x |target|. Thousands separators are left out, as in the
    paper's data.

    Source: github.com/tum-ai/number-token-loss, src/ntl/evaluation.py and src/ntl/xval/eval.py.

    Args:
        answers: a frame like that of `AnswerEvaluator.answers`.
        rounds: round predicted numbers to the decimals of their answers, as it does for xVal.

    Raises:
        UsageError: an answer holds no number.
    """
    predicted = np.array([_reference_number(text) for text in answers["prediction"]])
    targets = np.array([_reference_number(text) for text in answers["answer"]])
    if np.isnan(targets).any():
        text = answers["answer"].iloc[int(np.isnan(targets).argmax())]
        raise UsageError(f"the answer {text!r} holds no number: set evaluator.reference=false")
    clipped = np.clip(predicted, -CLIP, CLIP)
    if rounds:
        digits = [len(plain(target).partition(".")[2]) for target in targets]
        clipped = np.array([round(p, d) for p, d in zip(clipped, digits, strict=True)])
    scores = score(
        answers.assign(
            predicted_number=clipped,
            target_number=targets,
            correct=np.isclose(clipped, targets),
            invalid=np.isnan(predicted),
            wrong_length=False,
            clipped=np.abs(predicted) > CLIP,
        )
    )
    return {
        f"reference_{name}": value
        for name, value in scores.items()
        if not any(ours in name for ours in _NOT_OF_THE_REFERENCE)
    }


def _reference_number(text: str) -> float:
    """The last number of a text as the reference reads it, NaN if there is none."""
    numbers = _REFERENCE_NUMBER.findall(_THOUSANDS.sub("", text))
    return float("".join(numbers[-1].split())) if numbers else float("nan")
