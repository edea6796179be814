"""Mean squared error, for heads that predict the answer as a number.

Shapes: B examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from beyond_ce.losses.base import Loss, LossOutput, mean


class MeanSquaredError(Loss):
    """Mean of (prediction - label)^2 over the finite labels; 0 if there are none."""

    target: ClassVar[str] = "value"

    def __init__(self, number_values: Tensor) -> None:
        """`number_values` is unused: every loss gets it, but this one needs no vocabulary."""
        super().__init__()

    def forward(
        self, predictions: Tensor, labels: Tensor, counts: Mapping[str, Tensor] | None = None
    ) -> LossOutput:
        """Loss of `predictions` [B, 1] for `labels` float [B, 1]; `counts` as for any `Loss`."""
        counts = counts or self.counts(labels)
        mse = mean(squared_errors(predictions, labels).sum(), counts["values"])
        return LossOutput(mse, {"mse": mse})

    def counts(self, labels: Tensor) -> dict[str, Tensor]:
        return {"values": labels.isfinite().sum()}


def squared_errors(predictions: Tensor, labels: Tensor) -> Tensor:
    """Elementwise (prediction - label)^2; 0, with zero gradient, where a label is not finite."""
    known = labels.isfinite()
    # Replace the label before subtracting: masking afterwards would let a NaN into the gradient.
    return (predictions - torch.where(known, labels, predictions.detach())).square()
