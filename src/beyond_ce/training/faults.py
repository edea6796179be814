"""Errors in a training step, reported with the step and its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from beyond_ce.errors import RunError

_NEVER = torch.iinfo(torch.long).max


class FirstNonFinite:
    """Remembers, on the device, the first step whose loss was NaN or infinite.

    Reading the loss after every step would make an accelerator wait for the CPU each time.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self._step = torch.tensor(_NEVER, device=fabric.device)

    def record(self, loss: Tensor, step: int) -> None:
        """Take this rank's `loss` (scalar) at `step`, counted from 1."""
        self._step = torch.where(loss.isfinite(), self._step, self._step.clamp(max=step))

    def check(self, describe: Callable[[int], str]) -> None:
        """Raise RunError if a loss on any rank was not finite.

        Args:
            describe: says what a step, counted from 0, was trained on.
        """
        first = self._step
        if self.fabric.world_size > 1:
            first = cast(Tensor, self.fabric.all_reduce(first, reduce_op="min"))
        step = int(first)
        if step < _NEVER:
            raise RunError(
                f"train/loss is not finite at step {step} ({describe(step - 1)}): lower "
                "optimizer.lr, set trainer.gradient_clip=1.0, or start again from the last "
                "checkpoint"
            )


@contextmanager
def naming_batch(describe: Callable[[], str]) -> Iterator[None]:
    """Turns the error of a model or loss that rejects ids, such as labels outside the vocabulary,
    into a RunError that says which batch it was.

    Args:
        describe: names the batch; called only after an error.
    """
    try:
        yield
    except (IndexError, ValueError) as error:
        raise RunError(
            f"{describe()} does not fit the model: {error}; the model's vocabulary must hold the "
            "tokenizer's"
        ) from error
