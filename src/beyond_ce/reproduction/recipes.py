"""Tables of the recipes' own settings: nothing is trained or timed.

They show at once where a recipe has drifted from the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig

from beyond_ce.configuration import build
from beyond_ce.reproduction.measurement import RowByRow


class RecipeSettings(RowByRow):
    """The measurement behind tables of settings: every repeat gives the same numbers.

    Args:
        read: a row's config -> metrics.
    """

    def __init__(self, read: Callable[[DictConfig], dict[str, float]]) -> None:
        self.read = read

    def measure(self, config: DictConfig, repeat: int) -> dict[str, Any]:
        nothing_ran = {"parameters": 0, "steps": 0, "samples": 0, "wall_clock_s": 0.0}
        return {"metrics": self.read(config), **nothing_ran}


def hyperparameters(config: DictConfig) -> dict[str, float]:
    """The settings in MTP table S13, of a run on a corpus with a warmup and a cosine schedule."""
    tokens = config.trainer.batch_size * config.dataset.sequence_length
    return {
        "recipe/batch": tokens / 2**20,
        "recipe/steps": config.trainer.max_steps,
        "recipe/tokens": config.trainer.max_steps * tokens / 1e9,
        "recipe/warmup": config.scheduler.warmup_steps,
        "recipe/lr": config.optimizer.lr,
        "recipe/context": config.dataset.sequence_length,
        "recipe/decay": config.scheduler.decay_ratio,
    }


def architecture(config: DictConfig, vocab_size: int) -> dict[str, float]:
    """The sizes in MTP table S14, and the parameters in millions with `vocab_size` tokens."""
    with torch.device("meta"):
        sizes = {"vocab_size": vocab_size, "pad_id": 0, "eos_id": 1}
        model = build(config.model, "model", **sizes, head=build(config.head, "head"))
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "architecture/dim": config.model.dim,
        "architecture/layers": config.model.num_layers,
        "architecture/heads": config.model.num_heads,
        "architecture/parameters": parameters / 1e6,
        "architecture/layers_only": (parameters - 2 * vocab_size * config.model.dim) / 1e6,
    }
