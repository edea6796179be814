"""Mean squared error of a predicted value, for heads that predict the answer's number itself.

Shapes: B examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from beyond_ce.losses.base import Loss, LossOutput, mean


class MeanSquaredError(Loss):
    """Mean of (prediction - label)^2 over the finite labels; without any the loss is 0."""

    target: ClassVar[str] = "value"

    def __init__(self, number_values: Tensor) -> None:
        """`number_values` is what every loss is given; values need no vocabulary."""
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
    """(prediction - label)^2 element by element, 0 with zero gradient where a label is not
    finite."""
    known = labels.isfinite()
    # The label is replaced before the difference: a NaN would reach the gradient through a mask.
    return (predictions - torch.where(known, labels, predictions.detach())).square()
