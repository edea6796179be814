"""The loss of xVal (Golkar et al. 2023, arXiv:2310.02989): cross-entropy and squared error.

Shapes: B examples, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from beyond_ce.losses.base import IGNORED, Loss, LossOutput, mean
from beyond_ce.losses.regression import squared_errors
from beyond_ce.settings import WEIGHT, takes


class XValLoss(Loss):
    """Mean cross-entropy of the tokens + `weight` x mean squared error of the numbers.

    Terms "ce" and "mse" (unweighted), each a mean over its own labels. `weight` is 1 in xVal.
    """

    target: ClassVar[str] = "tokens and values"

    @takes(
        "loss",
        weight=WEIGHT,
    )
    def __init__(self, number_values: Tensor, weight: float = 1.0) -> None:
        """`number_values` is unused: every loss gets it, but xVal's numbers are not tokens."""
        super().__init__()
        self.weight = weight

    def forward(
        self, predictions: Tensor, labels: Tensor, counts: Mapping[str, Tensor] | None = None
    ) -> LossOutput:
        """Loss of `predictions` [B, T, V + 1]: the token logits, then a number.

        Args:
            labels: float [B, T, 2], token id and number; NaN is ignored.
            counts: as for any `Loss`.
        """
        counts = counts or self.counts(labels)
        ids = labels[..., 0].nan_to_num(IGNORED).long()  # float32 is exact for ids up to 2**24
        logits = predictions[..., :-1].flatten(0, -2).float()
        nll = F.cross_entropy(logits, ids.flatten(), ignore_index=IGNORED, reduction="sum")
        ce = mean(nll, counts["tokens"])
        errors = squared_errors(predictions[..., -1], labels[..., 1])
        mse = mean(errors.sum(), counts["numbers"])
        return LossOutput(ce + self.weight * mse, {"ce": ce, "mse": mse})

    def counts(self, labels: Tensor) -> dict[str, Tensor]:
        tokens, numbers = labels.isfinite().unbind(-1)
        return {"tokens": tokens.sum(), "numbers": numbers.sum()}
