"""Cross-entropy, the baseline of every table."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from beyond_ce.losses.base import IGNORED, Core, Loss, LossOutput, mean


class CrossEntropy(Loss):
    """Mean over the labels of -log p(label), the softmax running over all columns."""

    def _compute(self, labels: Tensor, counts: Mapping[str, Tensor], core: Core) -> LossOutput:
        ignored = labels == IGNORED
        no_ids = torch.empty(0, dtype=torch.long, device=labels.device)
        nll, _ = core(labels.masked_fill(ignored, 0), ~ignored, no_ids, None)
        ce = mean(nll, counts["tokens"])
        return LossOutput(ce, {"ce": ce})
