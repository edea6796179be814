"""The benchmark of the multi-token step at a tiny size: it runs, and its figures are coherent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from beyond_ce.benchmarks.mtp_step import all_at_once, gradient_difference
from beyond_ce.configuration import compose
from beyond_ce.losses import CrossEntropy
from beyond_ce.reproduction.measurements.random_models import (
    _replace_parameters,
    decoder_flops,
    decoders_sharing_parameters,
    random_batch,
)
from beyond_ce.training.objective import Objective

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"
VOCAB, BATCH = 100, (2, 12)
SETTING = {"model": "decoder_1m", "layers": 5, "vocabulary": VOCAB, "batch": list(BATCH)}


@pytest.fixture(scope="module")
def config():
    return compose(["model=decoder_1m", "head=multi_token"])


def test_models_share_their_parameters(config) -> None:
    models = decoders_sharing_parameters(config, [1, 2, 4], VOCAB)
    ids = [[id(p) for p in model.parameters()] for model in models.values()]
    assert ids[0] == ids[1] == ids[2]
    assert [len(model.layers) for model in models.values()] == [4, 3, 1]
    assert [model.head.n for model in models.values()] == [1, 2, 4]
    assert all(model.logits(torch.tensor([[3, 5]])).isfinite().all() for model in models.values())


def test_parameters_of_other_shapes_are_refused(config) -> None:
    (small,), (large,) = (
        decoders_sharing_parameters(config, [2], size).values() for size in (VOCAB, 200)
    )
    with pytest.raises(ValueError, match=r"embedding.weight is \(100, 128\) and not \(200, 128"):
        _replace_parameters(small, list(large.parameters()))


def test_ours_and_the_naive_step_have_one_loss_and_one_gradient(config) -> None:
    torch.manual_seed(0)
    model, batch = decoders_sharing_parameters(config, [4], VOCAB)[4], random_batch(BATCH, VOCAB)
    ours = Objective(model, CrossEntropy(torch.full((VOCAB,), torch.nan)))(batch)[0]
    torch.testing.assert_close(ours, all_at_once(model, batch))
    assert gradient_difference(SETTING) < 1e-5


@pytest.mark.parametrize("n", [1, 2, 4])
def test_operations_by_hand(config, n: int) -> None:
    """A product of [a, b] and [b, c] is 2 a b c operations, and twice that in its backward."""
    dim, layers, hidden, (rows, length) = 128, 5, 512, BATCH
    per_token = 2 * (4 * dim**2 + 3 * dim * hidden) + 4 * length * dim
    forward = rows * length * (layers * per_token + n * 2 * dim * VOCAB)
    assert decoder_flops(config, n, VOCAB, BATCH) == 3 * forward


def test_what_is_computed_again_is_counted(config) -> None:
    again = config.copy()
    again.model.checkpoint_activations = True
    plain, checked = ([decoder_flops(c, n, VOCAB, BATCH) for n in (2, 4)] for c in (config, again))
    more = [b - a for a, b in zip(plain, checked, strict=True)]
    assert more[0] > more[1] > 0  # the trunk's layers run again: fewer of them with four heads


@pytest.mark.slow
def test_prints_one_json_object() -> None:
    modes = ["--modes", "n=4", "naive n=4"]
    command = [sys.executable, SCRIPT, "mtp_step", "--small", "--repeats", "1", "--threads", "1"]
    done = subprocess.run([*command, *modes], capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert {"memory_ratio", "time_over_flops", "hardware", "setting"} <= figures.keys()
    assert figures["flop_ratio"]["n=4"] == figures["flop_ratio"]["naive n=4"] > 1
    assert figures["time_ratio"]["n=1"] == figures["time_over_flops"]["n=1"] == 1.0
    assert figures["gradient_difference"] < 1e-5
