"""Optimizers and learning-rate schedules, chosen by `_target_` in the config."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from beyond_ce.settings import SHARE, each, number, takes, whole


@takes(
    "optimizer",
    lr=number(above=0, high=100),
    weight_decay=number(0, 1000),
    betas=each(number(0, below=1), 2),
    eps=number(above=0, high=1),
)
def adamw(
    module: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float], eps: float
) -> torch.optim.AdamW:
    """AdamW with decoupled weight decay on matrices only: norms and biases are not decayed."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    # The fused kernel is the fastest on every device that has one, the CPU included.
    return torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)


@takes(
    "optimizer",
    lr=number(above=0, high=1),
    weight_decay=number(0, 1000),
    beta2_decay=number(-10, 0),
    clip=number(above=0),
)
def adafactor(
    module: nn.Module, lr: float, weight_decay: float, beta2_decay: float, clip: float
) -> torch.optim.Adafactor:
    """Adafactor (Shazeer and Stern, 2018), the optimizer T5 was pretrained with.

    Its step is `lr` relative to each parameter's own scale, which suits T5's embeddings: they
    start with a standard deviation of 1, fifty times that of most models, and hardly move under
    an absolute rate that is small enough for the other weights. As in the paper, the step t has a
    rate of 1 / sqrt(t) at most, whatever `lr` and the scheduler say.

    Args:
        beta2_decay: the second moment's decay at step t is 1 - t**beta2_decay.
        clip: largest root mean square of an update before scaling.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    return torch.optim.Adafactor(
        parameters, lr=lr, weight_decay=weight_decay, beta2_decay=beta2_decay, d=clip
    )


class Constant(LambdaLR):
    """Linear warmup, then a constant rate."""

    @takes(
        "scheduler",
        max_steps=whole(0),
        warmup_steps=whole(0),
    )
    def __init__(self, optimizer: torch.optim.Optimizer, max_steps: int, warmup_steps: int) -> None:
        super().__init__(optimizer, lambda step: min(1.0, (step + 1) / (warmup_steps + 1)))

    def after_step(self) -> None:
        self.step()

    def after_evaluation(self, loss: float) -> None:
        """Does not depend on the validation loss."""


class WarmupCosine(LambdaLR):
    """Linear warmup, then a cosine from the peak to `decay_ratio` x peak at `max_steps`.

    Source: MTP table S13 (`decay_ratio` 0.03 for code models).
    """

    @takes(
        "scheduler",
        max_steps=whole(0),
        warmup_steps=whole(0),
        decay_ratio=number(0, 1),
    )
    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_steps: int,
        warmup_steps: int,
        decay_ratio: float,
    ) -> None:
        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / (warmup_steps + 1)
            progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
            return decay_ratio + (1 - decay_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

        super().__init__(optimizer, factor)

    def after_step(self) -> None:
        self.step()

    def after_evaluation(self, loss: float) -> None:
        """Does not depend on the validation loss."""


class Plateau(ReduceLROnPlateau):
    """Multiply the rate by `factor` when the validation loss has not fallen for `patience`
    evaluations."""

    @takes(
        "scheduler",
        max_steps=whole(0),
        factor=SHARE,
        patience=whole(0),
    )
    def __init__(
        self, optimizer: torch.optim.Optimizer, max_steps: int, factor: float, patience: int
    ) -> None:
        super().__init__(optimizer, factor=factor, patience=patience)

    def after_step(self) -> None:
        """The rate changes after evaluations only."""

    def after_evaluation(self, loss: float) -> None:
        self.step(loss)
