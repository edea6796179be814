"""Gaussian cross-entropy: labels smoothed over the number tokens (arXiv:2411.02083, table 3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from beyond_ce.losses.base import LossOutput
from beyond_ce.losses.number_token import CDFDistance, NumberLoss, mean_over_numbers
from beyond_ce.losses.sparse_cross_entropy import CrossEntropyFunction
from beyond_ce.settings import WEIGHT, number, takes


class GaussianCrossEntropy(NumberLoss):
    """Cross-entropy with the target q_j ~ exp(-(v_j - y)^2 / 2 sigma^2) for labels of value y.

    q [K] is normalised over the number tokens; log p is from the softmax over all columns. Labels
    that are not numbers keep their one-hot target, and the mean runs over all labels. `sigma` is in
    the unit of the values. Term "gce".

    NOTE: the authors' development code first smoothed over token indices and divided by the number
    positions alone. Its later versions smooth over values and divide by all labels, as here, but
    take log p from the first K columns of the vocabulary instead of those of the number tokens.
    Here log p is that of the number tokens, as in the paper's text.
    """

    smoothed: Tensor  # float [K, K], one row per label

    @takes(
        "loss",
        sigma=number(1e-6, 1e6),
    )
    def __init__(self, number_values: Tensor, sigma: float = 1.0) -> None:
        super().__init__(number_values)
        squared_gaps = (self.values[:, None] - self.values).square()
        smoothed = torch.softmax(-squared_gaps / (2 * sigma**2), -1)
        self.register_buffer("smoothed", smoothed, persistent=False)

    def _compute(
        self, labels: Tensor, counts: Mapping[str, Tensor], cross_entropy: CrossEntropyFunction
    ) -> LossOutput:
        numbers = self._numbers(labels)
        gce, _ = self._mean_cross_entropy(labels, numbers, counts, cross_entropy, self.smoothed)
        return LossOutput(gce, {"gce": gce})


class GaussianWassersteinLoss(GaussianCrossEntropy):
    """GCE + `weight` x NTL-WAS-CDF, both against the same smoothed label; terms "gce" and "ntl".

    NTL is smallest at p = q (not at the one-hot label), so the two terms agree.
    """

    @takes(
        "loss",
        sigma=number(1e-6, 1e6),
        weight=WEIGHT,
    )
    def __init__(self, number_values: Tensor, sigma: float = 1.0, weight: float = 0.3) -> None:
        super().__init__(number_values, sigma)
        self.weight = weight
        self.cdf_distance = CDFDistance(self.values, self.smoothed)

    def _compute(
        self, labels: Tensor, counts: Mapping[str, Tensor], cross_entropy: CrossEntropyFunction
    ) -> LossOutput:
        numbers = self._numbers(labels)
        gce, number_logits = self._mean_cross_entropy(
            labels, numbers, counts, cross_entropy, self.smoothed
        )
        ntl = mean_over_numbers(self.cdf_distance, number_logits, numbers, counts)
        return LossOutput(gce + self.weight * ntl, {"gce": gce, "ntl": ntl})
