import json
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pandas as pd
import pytest

from beyond_ce.errors import UsageError
from beyond_ce.evaluation import NumberAnswers, Subject, evaluator
from beyond_ce.evaluation.number_answers import read_numbers, score


@pytest.fixture
def calls(monkeypatch):
    """Replaces generation by a calculator that knows sums of one digit."""
    calls = []

    def answer(model, tokenizer, texts, **options):
        calls.append(SimpleNamespace(model=model, tokenizer=tokenizer, texts=texts, **options))
        return [str(eval(text)) if len(text) < 4 else "?" for text in texts]

    monkeypatch.setattr(evaluator, "answer", answer)
    return calls


def dataset(*triples):
    return datasets.Dataset.from_list(
        [dict(zip(("prompt", "answer", "task"), triple, strict=True)) for triple in triples]
    )


def frame(predictions, answers, tasks=None):
    n = len(answers)
    return pd.DataFrame(
        {
            "prompt": [""] * n,
            "answer": answers,
            "task": tasks or ["sum"] * n,
            "prediction": predictions,
        }
    )


def test_every_example_is_answered_and_scored(calls):
    examples = dataset(("10+1", "11", "long"), ("1+2", "3", "short"), ("3+4", "8", "short"))
    result = NumberAnswers(batch_size=2, max_new_tokens=5, num_beams=3)(
        Subject("model", "tokenizer", "cpu"), examples
    )
    (call,) = calls
    assert (call.model, call.tokenizer, call.device) == ("model", "tokenizer", "cpu")
    assert call.texts == ["10+1", "1+2", "3+4"]
    assert (call.batch_size, call.max_new_tokens, call.num_beams) == (2, 5, 3)
    lines = result.predictions
    assert list(lines["prediction"]) == ["?", "3", "7"]
    assert list(lines["prompt"]) == ["10+1", "1+2", "3+4"]
    assert list(lines.columns[:4]) == ["prompt", "answer", "task", "prediction"]
    assert np.isnan(lines["predicted_number"][0])
    assert list(lines["target_number"]) == [11, 3, 8]
    assert result.metrics["accuracy"] == pytest.approx(1 / 3)
    assert result.metrics["invalid"] == pytest.approx(1 / 3)
    assert result.metrics["mae"] == 0.5


def test_a_part_of_the_examples_is_spread_over_all_of_them(calls):
    examples = dataset(*((f"{i}+0", str(i), "a" if i < 5 else "b") for i in range(10)))
    result = NumberAnswers(batch_size=8, max_new_tokens=3, max_examples=4)(
        Subject("model", "tokenizer", "cpu"), examples
    )
    assert list(result.predictions["answer"]) == ["0", "3", "6", "9"]


def test_how_each_kind_of_answer_counts():
    lines = read_numbers(frame(["12", "12.0", "123", "none", "13"], ["12"] * 5))
    assert list(lines["correct"]) == [True, True, False, False, False]
    assert list(lines["invalid"]) == [False, False, False, True, False]
    assert list(lines["wrong_length"]) == [False, True, True, False, False]
    scores = score(lines)
    assert scores["accuracy"] == pytest.approx(2 / 5)
    assert scores["invalid"] == pytest.approx(1 / 5)
    assert scores["wrong_length"] == pytest.approx(2 / 5)
    assert scores["within_1"] == pytest.approx(3 / 5)
    assert scores["mae"] == pytest.approx((111 + 1) / 4)
    assert scores["outliers"] == 1 / 5  # 123 is more than ten times 12
    assert scores["capped_mae"] == pytest.approx((120 - 12 + 1) / 4)
    assert "r2" not in scores  # constant targets
    assert not any("@" in name or name.startswith("task_mean") for name in scores)


def test_a_runaway_answer_is_clipped_and_counted():
    """1e10 is not beyond the clip, 11 nines are, and 400 nines overflow even a float."""
    lines = read_numbers(frame(["10000000000", "9" * 11, "-" + "9" * 400, "?"], ["2"] * 4))
    assert list(lines["predicted_number"][:3]) == [1e10, 1e10, -1e10]
    assert list(lines["clipped"]) == [False, True, True, False]
    scores = score(lines)
    assert scores["clipped"] == 0.5
    assert scores["mae"] == pytest.approx((2 * (1e10 - 2) + 1e10 + 2) / 3)
    assert np.isfinite(list(scores.values())).all()


def test_a_right_answer_beyond_the_clip_is_right_and_near():
    lines = read_numbers(frame(["120", "121"], ["120", "120"]), clip=100)
    assert list(lines["correct"]) == [True, False]
    assert list(lines["target_number"]) == [100, 100]
    assert (score(lines)["clipped"], score(lines)["mae"]) == (1, 0)


def test_the_clip_is_set_by_the_evaluator(calls):
    settings = {"batch_size": 2, "max_new_tokens": 5}
    examples = dataset(("9+9", "18", "sum"), ("1+2", "3", "sum"))
    for clip, clipped in ((10, 0.5), (18, 0)):
        metrics = NumberAnswers(**settings, clip=clip)(Subject("m", "t", "cpu"), examples).metrics
        assert metrics["clipped"] == clipped
    for clip in (0, -1, float("nan")):
        with pytest.raises(UsageError, match="evaluator.clip="):
            NumberAnswers(**settings, clip=clip)


def test_several_tasks_are_scored_apart_and_averaged_unweighted():
    lines = read_numbers(frame(["1", "2", "5", "9"], ["1", "2", "3", "19"], ["a", "a", "a", "b"]))
    scores = score(lines)
    assert scores["accuracy"] == 0.5
    assert scores["accuracy@a"] == pytest.approx(2 / 3)
    assert scores["accuracy@b"] == 0
    assert scores["task_mean_accuracy"] == pytest.approx(1 / 3)
    assert scores["task_mean_mae"] == pytest.approx((2 / 3 + 10) / 2)
    # One answer has no variance: its task is left out of the mean of R^2.
    assert "r2@b" not in scores
    assert scores["task_mean_r2"] == scores["r2@a"]


def test_nothing_valid_leaves_the_shares_alone():
    scores = score(read_numbers(frame(["?", ""], ["1", "2"])))
    shares = dict.fromkeys(["accuracy", "within_1", "wrong_length", "clipped", "outliers"], 0)
    assert scores == {"invalid": 1} | shares


def test_an_answer_that_is_no_number_is_refused():
    with pytest.raises(UsageError, match="'blue' holds no number"):
        read_numbers(frame(["1"], ["blue"]))


@pytest.mark.parametrize("option", ["batch_size", "max_new_tokens", "num_beams", "max_examples"])
def test_sizes_below_one_are_refused(option):
    options = {"batch_size": 1, "max_new_tokens": 1, option: 0}
    with pytest.raises(UsageError, match=f"evaluator.{option}=0"):
        NumberAnswers(**options)


RESULTS = Path(__file__).resolve().parents[2] / "results" / "reports"


@pytest.mark.parametrize(
    "path",
    [path for path in RESULTS.glob("*/evaluation/*.parquet") if path.stem == "interpolate"],
    ids=lambda path: path.parents[1].name,
)
def test_committed_predictions_are_read_as_they_were(path):
    stored = pd.read_parquet(path)
    answers = stored[["prompt", "answer", "task", "prediction"]]
    metrics = json.loads((path.parents[1] / "report.json").read_text())
    clip = metrics["config"]["evaluator"]["evaluators"]["number_answers"]["clip"]
    pd.testing.assert_frame_equal(read_numbers(answers, clip=clip), stored)
    assert score(stored)["accuracy"] == metrics["metrics"]["interpolate/accuracy"]
