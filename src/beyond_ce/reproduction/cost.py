"""How many hours of a GPU a table's training takes: an estimate from its configs.

A step takes its operations at the rate of `_RATES`, or as long as it takes to launch its kernels
(`_SECONDS_PER_LAYER` and micro-batch), whichever is longer. Decoders on a corpus: operations as
counted by `training_flops`. Other models: 6 x parameters x tokens, with the tokens of an example
from `_TOKENS`. Evaluation comes on top. Expect a factor of two either way.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from omegaconf import DictConfig

from beyond_ce.configuration import build
from beyond_ce.models import Decoder
from beyond_ce.reproduction.measurements.random_models import decoder_flops
from beyond_ce.reproduction.plan import Plan

# Operations per second that we expect of an H100: 40% of its dense bf16 peak, 989e12, and 60% of
# its float32 peak, 67e12.
_RATES = {"32-true": 0.6 * 67e12}
_RATE = 0.4 * 989e12
_SECONDS_PER_LAYER = 1.5e-3
_VOCABULARY = 32000

# Tokens of an example, prompt, answer and padding: our guesses.
_TOKENS = {
    "Arithmetic": 64,
    "Mathematics": 80,
    "Multiplication": 24,
    "Polynomials": 31,
    "RJokes": 120,
    "GSM8K": 250,
    "MultiRC": 400,
}

# Published models: parameters that a token passes through, and layers.
_PUBLISHED = {
    "openai-community/gpt2": (0.124e9, 12),
    "openai-community/gpt2-medium": (0.355e9, 24),
    "openai-community/gpt2-large": (0.774e9, 36),
    "openai-community/gpt2-xl": (1.56e9, 48),
    "ibm-granite/granite-3.2-2b-instruct": (2.5e9, 40),
    "ibm-granite/granite-3.1-1b-a400m-base": (0.4e9, 24),
}


def estimate_line(plan: Plan) -> str | None:
    """One line on what the missing runs of a table cost; None if they run on no GPU.

    Measured tables take minutes and are left out.
    """
    missing = plan.missing()
    configs = [plan.configs[job] for job in missing.values()]
    if plan.table.measure or not any(_on_gpu(config) for config in configs):
        return None
    return (
        f"{plan.table.id} at scale {plan.scale}: {len(configs)} runs, about "
        f"{rough(gpu_hours(configs))} GPU-hours of training on H100s, give or take a factor of two"
    )


def table_gpu_hours(plan: Plan) -> float:
    """Of all runs of a table, finished or not; a run that several rows share counts once."""
    return gpu_hours({plan.folder(job): config for job, config in plan.configs.items()}.values())


def gpu_hours(configs: Iterable[DictConfig]) -> float:
    """Of the training of these runs, over all their devices."""
    known: dict[str, float] = {}  # the seeds of a row take equally long
    hours = 0.0
    for config in configs:
        if not _on_gpu(config):
            continue
        key = str({**config, "seed": 0})
        if key not in known:
            known[key] = _run_hours(config)
        hours += known[key]
    return hours


def rough(hours: float) -> str:
    """Two digits, with thousands separated: 1,300."""
    return f"{float(f'{hours:.2g}'):,.0f}" if hours >= 1 else "less than 1"


def _on_gpu(config: DictConfig) -> bool:
    return config.trainer.accelerator != "cpu" and "baseline" not in config


def _run_hours(config: DictConfig) -> float:
    trainer = config.trainer
    operations, layers = _operations(config)
    devices = trainer.devices if isinstance(trainer.devices, int) else 1
    compute = operations * trainer.batch_size / _RATES.get(trainer.precision, _RATE)
    launch = _SECONDS_PER_LAYER * layers * trainer.accumulate * devices
    return float(trainer.max_steps * max(compute, launch) / 3600)


def _operations(config: DictConfig) -> tuple[float, int]:
    """Floating-point operations of an example, forward and backward, and the model's layers."""
    published = config.model.get("pretrained")
    if published in _PUBLISHED:
        parameters, layers = _PUBLISHED[published]
        return 6 * parameters * _tokens(config), layers
    if "sequence_length" in config.dataset:
        shape = (1, config.dataset.sequence_length)
        return decoder_flops(config, None, _VOCABULARY, shape), config.model.num_layers
    with torch.device("meta"):
        sizes = {"vocab_size": _VOCABULARY, "pad_id": 0, "eos_id": 1}
        plain = config.model.copy()
        if "pretrained" in plain:
            plain.pretrained = None
        model = build(plain, "model", **sizes, head=build(config.head, "head"))
    stacks = 1 if isinstance(model, Decoder) or "d_model" not in config.model else 2
    # A token passes one of T5's two stacks, and about half of its parameters.
    parameters = sum(p.numel() for p in model.parameters()) / stacks
    return 6 * parameters * _tokens(config), stacks * config.model.num_layers


def _tokens(config: DictConfig) -> int:
    return _TOKENS[config.dataset._target_.rpartition(".")[2]]
