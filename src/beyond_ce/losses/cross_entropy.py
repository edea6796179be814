"""Cross-entropy, the baseline of every table."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from beyond_ce.losses.base import IGNORED, LossOutput, TokenLoss, mean
from beyond_ce.losses.sparse_cross_entropy import CrossEntropyFunction


class CrossEntropy(TokenLoss):
    """Mean over the labels of -log p(label), with the softmax over all columns."""

    exact_in_half = True

    def _compute(
        self, labels: Tensor, counts: Mapping[str, Tensor], cross_entropy: CrossEntropyFunction
    ) -> LossOutput:
        ignored = labels == IGNORED
        no_ids = torch.empty(0, dtype=torch.long, device=labels.device)
        sums = cross_entropy(
            labels=labels.masked_fill(ignored, 0), label_weight=~ignored, number_ids=no_ids
        )
        ce = mean(sums.nll, counts["tokens"])
        return LossOutput(ce, {"ce": ce})
