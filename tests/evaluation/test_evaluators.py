from __future__ import annotations

import inspect

import pytest
from choices import choices
from omegaconf import OmegaConf

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


def test_all_choices_are_called_alike():
    made = [build(compose([f"evaluator={n}"]).evaluator, "evaluator") for n in choices("evaluator")]
    called = {tuple(inspect.signature(type(each).__call__).parameters) for each in made}
    assert len(called) == 1


@pytest.mark.parametrize("name", choices("evaluator", Evaluators))
def test_settings_of_the_combinations_reach_every_evaluator(name):
    """A setting of the whole is that of all parts that have it; one that no part has is no use."""
    settings = compose([f"evaluator={name}"]).evaluator
    keys = set(settings) - {"_target_", "evaluators"}
    numbers = [key for key in keys if isinstance(settings[key], int)]
    # From 200: samples must be as many as the largest k of pass@k.
    values = {key: i if key in numbers else [i] for i, key in enumerate(sorted(keys), start=200)}
    changed = compose(
        [f"evaluator={name}", *(f"evaluator.{key}={value}" for key, value in values.items())]
    ).evaluator
    for key in keys:
        parts = [part for part in changed.evaluators.values() if key in part]
        assert parts and all(part[key] == values[key] for part in parts), key
    overrides = [f"evaluator.{key}={values[key]}" for key in numbers]
    built = build(compose([f"evaluator={name}", *overrides]).evaluator, "evaluator").evaluators
    assert list(built) == list(settings.evaluators)
    for key in numbers:
        for part, each in built.items():
            if key in settings.evaluators[part]:
                assert getattr(each, key) == values[key], (part, key)


def test_a_shared_setting_that_is_not_the_parts_is_refused():
    name = "evaluator=number_answers_and_mass"
    for override in (
        "evaluator.evaluators.number_mass.max_examples=3",
        "+evaluator.foo=1",
        "evaluator.num_beams=0",
    ):
        with pytest.raises(UsageError) as error:
            build(compose([name, override]).evaluator, "evaluator")
        assert "\n" not in str(error.value)
    with pytest.raises(
        UsageError, match=r"max_examples=5 and .*number_mass\.max_examples=None con"
    ):
        Evaluators({"number_mass": NumberMass(batch_size=1)}, max_examples=5)


@pytest.mark.parametrize("name", choices("evaluator", Evaluators))
def test_a_changed_setting_reaches_the_parts_of_a_saved_config(name):
    """In a saved config the parts' settings no longer refer to the shared ones."""
    config = compose([f"evaluator={name}"])
    saved = OmegaConf.create(OmegaConf.to_container(config, resolve=True)).evaluator
    numbers = [key for key in saved if isinstance(saved[key], int)]
    for key in numbers:
        changed = saved.copy()
        changed[key] = 201
        parts = build(Evaluators.pass_on(changed, saved), "evaluator").evaluators
        taken = [part for part in parts if key in saved.evaluators[part]]
        assert taken and all(getattr(parts[part], key) == 201 for part in taken)
        changed = saved.copy()
        changed[key] = 201
        changed.evaluators[taken[0]][key] = 202
        with pytest.raises(UsageError, match=f"{key}=202 contradict"):
            build(Evaluators.pass_on(changed, saved), "evaluator")
