"""Scores answers that are right only if every token of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from beyond_ce.evaluation.evaluator import (
    AnswerEvaluator,
    Evaluation,
    Subject,
    subsample,
)

if TYPE_CHECKING:
    import datasets


_SHARES = {"accuracy": "correct", "finished": "finished"}
"""Metric -> the column whose mean it is."""


class ExactAnswers(AnswerEvaluator):
    """Scores generated answers by whether they are the right text and end there (see `score`)."""

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        examples = subsample(examples, self.max_examples)
        prompts = subject.tokenizer.encode(list(examples["prompt"]))
        predictions = self.written(subject, examples, prompts)
        same = predictions["prediction"] == predictions["answer"]
        predictions["correct"] = same & predictions["finished"]
        return Evaluation(score(predictions), predictions)


def score(predictions: pd.DataFrame) -> dict[str, float]:
    """Metrics of a frame with task, correct and finished.

    - `accuracy`: share of answers that are right; one that does not end is wrong.
    - `finished`: share of answers that end within `max_new_tokens`.
    - `examples`: how many there are.

    Each is also given for every task, as `accuracy@<task>`. Tasks may be in groups, such as
    "in_domain/m=3": then also for each group, as `accuracy@in_domain`. All shares are of answers: a
    mean over tasks would let the few of a small one decide.
    """
    if predictions.empty:
        return {}
    scores = _metrics(predictions)
    task = predictions["task"]
    for names in (task, task.str.rpartition("/")[0]):
        for name, rows in predictions[names != ""].groupby(names):
            scores |= {f"{metric}@{name}": value for metric, value in _metrics(rows).items()}
    return scores


def _metrics(predictions: pd.DataFrame) -> dict[str, float]:
    return {
        **{name: float(predictions[column].mean()) for name, column in _SHARES.items()},
        "examples": float(len(predictions)),
    }
