from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pytest

from beyond_ce.benchmarks import trainer as benchmark
from beyond_ce.benchmarks.trainer import main

TRAINERS = {"ours", "seq2seq_trainer", "seq2seq_trainer_grouped"}


@pytest.fixture(scope="module")
def figures() -> dict:
    return main(["--steps", "3", "--repeats", "2", "--batch-size", "8", "--threads", "1"])


@pytest.mark.slow
def test_reports_every_trainer_and_what_it_ran_on(figures: dict) -> None:
    for key in ("samples_per_s", "padding", "validation_loss"):
        assert figures[key].keys() == TRAINERS
        assert all(math.isfinite(value) and value > 0 for value in figures[key].values())
    for key in ("ratio", "ratio_range", "cpu_ratio", "cpu_ratio_range"):
        assert figures[key].keys() == TRAINERS - {"ours"}
    assert figures["bar"] == {"seq2seq_trainer": 1.2}
    settings = {"steps": 3, "repeats": 2, "batch_size": 8, "threads": 1}
    assert {key: figures[key] for key in settings} == settings
    assert figures.keys() >= {"versions", "hardware", "commit"}


@pytest.mark.slow
@pytest.mark.parametrize("ratio", ["ratio", "cpu_ratio"])
def test_ratio_lies_within_its_range(figures: dict, ratio: str) -> None:
    for name, (low, high) in figures[f"{ratio}_range"].items():
        assert 0 < low <= figures[ratio][name] <= high


def test_ratios_are_medians_of_the_repeats() -> None:
    ours, random, grouped = [6.0, 8.0, 10.0], [3.0, 2.0, 10.0], [6.0, 16.0, 5.0]
    rates = {"ours": ours, "seq2seq_trainer": random, "seq2seq_trainer_grouped": grouped}
    assert benchmark._ratios(rates, "cpu_ratio") == {
        "cpu_ratio": {"seq2seq_trainer": 2.0, "seq2seq_trainer_grouped": 1.0},
        "cpu_ratio_range": {"seq2seq_trainer": [1.0, 4.0], "seq2seq_trainer_grouped": [0.5, 2.0]},
    }


@pytest.mark.slow
def test_both_models_have_the_same_loss_before_training(figures: dict) -> None:
    loss = figures["first_batch_loss"]
    assert loss["ours"] == pytest.approx(loss["seq2seq_trainer"], abs=1e-5)


@pytest.mark.slow
def test_all_trainers_learn_alike(figures: dict) -> None:
    first = figures["first_batch_loss"]["ours"]
    final = figures["validation_loss"]
    assert all(loss < first - 1 for loss in final.values())
    assert max(final.values()) - min(final.values()) < 0.5


@pytest.mark.slow
def test_grouping_by_length_pads_less(figures: dict) -> None:
    assert figures["padding"]["ours"] < figures["padding"]["seq2seq_trainer"]


def test_the_same_batches_in_the_same_order_train_the_same(tmp_path: Path) -> None:
    """Whatever differs in the benchmark's losses comes from which examples share a batch."""
    options = argparse.Namespace(steps=10, batch_size=8, threads=1)
    config, prepared = benchmark._prepare(options, str(tmp_path))
    steps = config.trainer.max_steps
    _, batches = benchmark._ours(config, prepared)
    _, ours = benchmark._run_ours(config, prepared)
    order = np.concatenate([batches.order[step] for step in range(steps)])
    prepared.train = prepared.train.select(order)
    _, peer = benchmark._run_peer(config, prepared, "sequential")
    assert ours["padding"] == peer["padding"]
    assert ours["validation_loss"] == pytest.approx(peer["validation_loss"], abs=1e-3)
