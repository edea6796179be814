import json
import math

import numpy as np
import pytest

from beyond_ce.configuration import compose
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.baselines import Mean, Median, Ridge
from beyond_ce.runs.experiment import run
from beyond_ce.runs.identity import run_hash

TARGETS = np.array([0.0, 0.0, 1.0, 7.0])


def test_the_constants_by_hand():
    for baseline, value in ((Mean(), 2.0), (Median(), 0.5)):
        assert baseline.fit(["a"] * 4, TARGETS) == 1
        assert baseline.predict(["b", "c"]).tolist() == [value, value]


def test_ridge_finds_the_word_that_counts():
    rng = np.random.default_rng(0)
    good = rng.random(400) < 0.5
    prompts = [f"a joke that is {'good' if each else 'bad'} indeed" for each in good]
    ridge = Ridge(alphas=[0.01, 1e6], max_features=100)
    parameters = ridge.fit(prompts, np.where(good, 5.0, 1.0))
    assert ridge.alpha == 0.01  # the other gives the mean
    assert parameters == len(ridge.weights.vocabulary_) + 1
    found = ridge.predict(["a joke that is good indeed", "a joke that is bad indeed"])
    np.testing.assert_allclose(found, [5, 1], atol=0.05)


@pytest.mark.parametrize("alphas", [[], [0.0, 1.0]])
def test_ridge_refuses_penalties_that_are_none(alphas):
    with pytest.raises(UsageError, match="alphas"):
        Ridge(alphas=alphas, max_features=10)


@pytest.fixture
def overrides(tmp_path):
    return [
        "experiment=ntl/arithmetic/smoke",
        f"results_dir={tmp_path}",
        f"cache_dir={tmp_path}/cache",
        "baseline=mean",
    ]


def test_a_run_reports_a_baseline_as_it_does_a_model(overrides):
    folder = run(compose(overrides))
    assert (folder / "DONE").exists() and not list(folder.glob("*.ckpt"))
    metrics = json.loads((folder / "report.json").read_text())["metrics"]
    assert math.isclose(metrics["interpolate/rmse"], metrics["interpolate/mse"] ** 0.5)
    assert metrics["interpolate/invalid"] == 0
    assert "interpolate/pearson" not in metrics  # a constant correlates with nothing


def test_what_trains_a_model_does_not_define_a_baseline(overrides):
    name = run_hash(compose(overrides))
    assert run_hash(compose([*overrides, "trainer.max_steps=7", "loss=ntl_was"])) == name
    assert run_hash(compose([*overrides[:-1], "baseline=median"])) != name
    assert run_hash(compose(overrides[:-1])) != name


def test_the_evaluator_scores_a_baseline(overrides):
    folder = run(compose([*overrides, "+evaluator.clip=0.5", "evaluator.max_examples=5"]))
    metrics = json.loads((folder / "report.json").read_text())["metrics"]
    assert metrics["interpolate/mae"] <= 1  # what is clipped to +-0.5 is no farther apart
    with pytest.raises(UsageError, match="TextOverlap does not score"):
        run(compose([*overrides, "evaluator=text_overlap"]))
