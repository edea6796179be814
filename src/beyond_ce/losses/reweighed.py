"""NTL that accounts for the mass on other tokens: `reweigh` of the authors' package `ntloss`.

Plain NTL looks at the number tokens' logits alone. If the label is a number and nearly all mass is
on words, it only judges how the small rest is spread over the numbers. NOTE: this is not in the
paper, whose experiments did not use it.

Shapes: N positions, K number tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from beyond_ce.losses.base import LossOutput
from beyond_ce.losses.number_token import (
    ExpectedValueLoss,
    NumberTokenLoss,
    WassersteinLoss,
    mask_non_numbers,
    mean_over_numbers,
)
from beyond_ce.losses.sparse_cross_entropy import CrossEntropyFunction

WORSE_THAN_ANY_NUMBER = 1.01  # as in ntloss


class ReweighedLoss(NumberTokenLoss):
    """CE + `weight` x mean of (m x NTL + (1 - m) x 1.01 x worst).

    m is the total probability of all number tokens under the softmax over all columns; `worst` is
    the largest NTL between two number tokens, so a word costs more than any number.

    From hidden states, the backward pass recomputes the logits of number positions, because the
    gradient of m reaches every column.
    """

    def _compute(
        self, labels: Tensor, counts: Mapping[str, Tensor], cross_entropy: CrossEntropyFunction
    ) -> LossOutput:
        numbers = self._numbers(labels)
        ce, log_p = self._mean_cross_entropy(
            labels, numbers, counts, cross_entropy, normalised=True
        )
        m = mask_non_numbers(log_p, numbers).exp().sum(-1)

        def reweighed(p: Tensor, indices: Tensor) -> Tensor:
            miss = WORSE_THAN_ANY_NUMBER * self._worst().to(p.dtype)
            return m * self._distance(p, indices) + (1 - m) * miss

        ntl = mean_over_numbers(reweighed, log_p, numbers, counts)
        return LossOutput(ce + self.weight * ntl, {"ce": ce, "ntl": ntl})

    @abstractmethod
    def _worst(self) -> Tensor:
        """The largest distance (scalar) between two number tokens."""


class ReweighedWassersteinLoss(ReweighedLoss, WassersteinLoss):
    """NTL-WAS, reweighed."""

    def _worst(self) -> Tensor:
        return self.costs.max()


class ReweighedExpectedValueLoss(ReweighedLoss, ExpectedValueLoss):
    """NTL-L_p, reweighed. NOTE: `worst` is the maximum over all pairs of values; ntloss takes the
    distance of the smallest and the largest value, which only differs if the distance is not
    monotone (`modular`)."""

    def _worst(self) -> Tensor:
        return self.distance(self.values[:, None], self.values).max()
