"""Scoring by the rules of the NTL paper's own code, beside ours."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
import pytest

from beyond_ce.errors import UsageError
from beyond_ce.evaluation import FinalAnswer, NumberAnswers, Subject, evaluator
from beyond_ce.evaluation.number_answers import reference_scores


def frame(predictions: list[str], answers: list[str], tasks: list[str] | None = None):
    n = len(answers)
    return pd.DataFrame(
        {
            "prompt": [""] * n,
            "answer": answers,
            "task": tasks or ["a"] * n,
            "prediction": predictions,
        }
    )


class Words:
    """A tokenizer with a token for every character."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [list(range(len(text))) for text in texts]


@pytest.mark.parametrize(
    ("prediction", "answer", "right"),
    [
        ("100000", "100001", True),  # within 1e-5
        ("100000", "100002", False),
        ("12-5", "-5", True),  # a sign before digits is theirs; ours reads 5
        ("x = - 7", "-7", True),
        ("1,080", "1080", True),
        (".5", "5", True),
        ("none", "3", False),
        ("1" * 12, "1" * 12, False),  # the prediction is clipped and the target is not
        ("10000000000", "10000000001", True),
    ],
)
def test_what_counts_as_right(prediction: str, answer: str, right: bool) -> None:
    assert reference_scores(frame([prediction], [answer]))["reference_accuracy"] == right


def test_worked_by_hand() -> None:
    scores = reference_scores(frame(["1", "3", "?", "20000000000"], ["1", "5", "7", "20000000000"]))
    assert scores["reference_accuracy"] == 1 / 4
    assert scores["reference_invalid"] == 1 / 4
    assert scores["reference_clipped"] == 1 / 4
    assert scores["reference_mae"] == pytest.approx((0 + 2 + 1e10) / 3)
    target = np.array([1, 5, 2e10])
    total = ((target - target.mean()) ** 2).sum()
    assert scores["reference_r2"] == pytest.approx(1 - (2**2 + 1e10**2) / total)
    assert not [name for name in scores if "wrong_length" in name]


def test_tasks_are_averaged_unweighted() -> None:
    scores = reference_scores(frame(["1", "2", "0"], ["1", "2", "3"], ["a", "a", "b"]))
    assert scores["reference_accuracy@a"] == 1
    assert scores["reference_task_mean_accuracy"] == 0.5


def test_predicted_numbers_get_the_decimals_of_their_answers() -> None:
    predictions, answers = ["4.4721", "4.4721", "12.3", "8"], ["4.47", "4", "12.50", "8"]
    scores = reference_scores(frame(predictions, answers), rounds=True)
    assert scores["reference_accuracy"] == 3 / 4
    assert reference_scores(frame(predictions, answers))["reference_accuracy"] == 1 / 4


def test_ours_rounds_to_fixed_decimals_and_the_reference_to_the_answers() -> None:
    settings = {"batch_size": 1, "max_new_tokens": 3}
    answers = frame(["4.4721", "3.6"], ["4.47", "4"])
    own = NumberAnswers(**settings, decimals=0, reference=True).judge(answers)
    assert own.metrics["accuracy"] == 0.5 and own.metrics["reference_accuracy"] == 1
    assert list(own.predictions["prediction"]) == ["4", "4"]
    plain = NumberAnswers(**settings).judge(answers)
    assert plain.metrics["accuracy"] == 0
    assert not any(name.startswith("reference") for name in plain.metrics)


def test_an_answer_without_a_number_is_refused() -> None:
    with pytest.raises(UsageError, match="holds no number: set evaluator.reference=false"):
        reference_scores(frame(["1"], ["none"]))


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths that answers were generated with; every answer is "#### 1,080"."""
    asked: list[int] = []

    def answer(model, tokenizer, texts, max_new_tokens, **_):
        asked.append(max_new_tokens)
        return ["#### 1,080"] * len(texts)

    monkeypatch.setattr(evaluator, "answer", answer)
    return asked


def test_final_answers_are_scored_both_ways_with_room_for_the_longest(lengths: list[int]) -> None:
    examples = datasets.Dataset.from_list(
        [{"prompt": "p", "answer": text, "task": "a"} for text in ("#### 1080", "so 2\n#### 2")]
    )
    scored = FinalAnswer(batch_size=2, max_new_tokens=None, reference=True)
    metrics = scored(Subject("model", Words(), "cpu"), examples).metrics
    assert lengths == [len("so 2\n#### 2") + 1 + 10]
    assert metrics["accuracy"] == metrics["reference_accuracy"] == 0.5
