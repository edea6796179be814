from __future__ import annotations

import pytest

from beyond_ce.configuration import build, compose
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import Evaluators, NumberAnswers, NumberMass, Subject, evaluator


def test_several_evaluators_are_one(tokenizer, uniform, monkeypatch, examples):
    monkeypatch.setattr(
        evaluator, "answer", lambda model, tokenizer, texts, **_: ["5"] * len(texts)
    )
    answers, mass = NumberAnswers(batch_size=1, max_new_tokens=1), NumberMass(batch_size=1)
    data = examples("5", "6")
    both = Evaluators({"answers": answers, "mass": mass})(Subject(uniform, tokenizer, "cpu"), data)
    alone = [each(Subject(uniform, tokenizer, "cpu"), data) for each in (answers, mass)]
    assert both.metrics == alone[0].metrics | alone[1].metrics
    assert list(both.predictions["prediction"]) == ["5", "5"]


def test_a_metric_of_two_evaluators_is_refused(tokenizer, uniform, examples):
    mass = NumberMass(batch_size=1)
    twice = Evaluators({"one": mass, "two": mass})
    with pytest.raises(UsageError, match=r"evaluators\.two gives the metric 'expected_distance'"):
        twice(Subject(uniform, tokenizer, "cpu"), examples("1"))
    with pytest.raises(UsageError, match="is empty"):
        Evaluators({})


def test_settings_of_the_combinations_reach_every_evaluator():
    for first in ("number_answers", "final_answer"):
        overrides = [
            f"evaluator={first}_and_mass",
            "evaluator.batch_size=7",
            "evaluator.num_beams=3",
        ]
        both = build(compose(overrides).evaluator, "evaluator").evaluators
        assert list(both) == [first, "number_mass"]
        assert both[first].num_beams == 3
        assert {each.batch_size for each in both.values()} == {7}
