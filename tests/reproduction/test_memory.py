"""The estimate of memory: against a measured small model, and what the recipes need."""

from __future__ import annotations

import itertools

import pytest
import torch
from omegaconf import DictConfig
from torch.profiler import ProfilerActivity, profile

from beyond_ce.configuration import compose
from beyond_ce.losses import CrossEntropy
from beyond_ce.reproduction.measurements.random_models import random_batch, random_decoder
from beyond_ce.reproduction.memory import estimate_memory
from beyond_ce.training.objective import Objective

GPU_GIB = 80e9 / 2**30
ROWS, TOKENS, VOCABULARY = 4, 256, 500


def small(*overrides: str) -> DictConfig:
    return compose(
        [
            *("dataset=python_source", f"dataset.sequence_length={TOKENS}"),
            *("model=decoder_3m", "model.num_layers=8", f"trainer.batch_size={ROWS}", *overrides),
        ]
    )


def measured(config: DictConfig) -> float:
    """GiB of tensors that a forward and backward pass takes at its peak, beyond the weights."""
    model = random_decoder(config, VOCABULARY)
    objective = Objective(model, CrossEntropy(torch.full((VOCABULARY,), torch.nan)))
    batch = random_batch((ROWS, TOKENS), VOCABULARY)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        objective(batch)[0].backward()
    results = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in results if e.name() == "[memory]")
    return max(itertools.accumulate(size for _, size in changes)) / 2**30


@pytest.mark.parametrize(
    "overrides",
    [
        ["head=lm"],
        ["head=lm", "model.checkpoint_activations=true"],
        ["head=multi_token", "model.checkpoint_activations=true"],
        ["head=multi_token", "head/block=linear", "model.checkpoint_activations=true"],
    ],
    ids=["plain", "recomputed", "four heads", "four linear heads"],
)
def test_a_small_model_takes_what_is_estimated(overrides: list[str]) -> None:
    config = small(*overrides)
    estimate = estimate_memory(config, VOCABULARY)
    assert measured(config) == pytest.approx(estimate.gradients + estimate.activations, rel=0.2)


@pytest.mark.parametrize(
    ("overrides", "vocabulary"),
    [
        (["experiment=mtp/code/paper"], 32000),
        (["experiment=mtp/prose/paper"], 32000),
        (["experiment=mtp/books/paper"], 32000),
        (["experiment=mtp/decoding/paper"], 32000),
        (["experiment=mtp/architectures/paper"], 32000),
        (["experiment=mtp/architectures/paper", "head=lm"], 32000),
        (["experiment=mtp/architectures/paper", "head=multi_token_causal"], 32000),
        (["experiment=mtp/architectures/paper", "head.extra_layers=3"], 32000),
        (["experiment=mtp/bytes/paper", "head.n=8"], 259),
        (["experiment=mtp/bytes/paper", "head.n=32"], 259),
        (["experiment=mtp/code_tasks/paper", "head.n=8"], 32000),
        (["experiment=mtp/code_tasks_bytes/paper", "head.n=32"], 259),
        (["experiment=mtp/scaling/paper", "model=decoder_6_7b"], 32000),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_7b_fits_eight_gpus_of_80_gb(overrides: list[str], vocabulary: int) -> None:
    config = compose(overrides)
    trainer = config.trainer
    assert (trainer.devices, trainer.strategy) == (8, "fsdp")
    assert trainer.batch_size % (8 * trainer.accumulate) == 0
    assert estimate_memory(config, vocabulary).total < 0.8 * GPU_GIB


def test_worked_by_hand() -> None:
    """6.74 B parameters x 16 bytes / 8, and twice the model in bf16."""
    config = compose(["experiment=mtp/code/paper"])
    memory = estimate_memory(config, 32000)
    parameters = 6_738_415_616
    assert memory.states == pytest.approx(12 * parameters / 8 / 2**30)
    assert memory.gradients == pytest.approx((4 / 8 + 4) * parameters / 2**30)
    alone = estimate_memory(compose(["experiment=mtp/code/paper", "trainer.strategy=auto"]), 32000)
    assert alone.total > GPU_GIB
