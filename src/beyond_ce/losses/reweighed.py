"""NTL that sees the mass beside the number tokens: `reweigh` of the authors' package `ntloss`.

Plain NTL looks at the number tokens' logits alone: where a number is due and nearly all mass is on
words, it judges how the little that is left spreads over the numbers. NOTE: not in the paper,
whose experiments ran without.

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
    mean_over_numbers,
    only_numbers,
)
from beyond_ce.losses.sparse_cross_entropy import CrossEntropyFunction

WORSE_THAN_ANY_NUMBER = 1.01  # as in ntloss


class ReweighedLoss(NumberTokenLoss):
    """CE + `weight` x mean of (m x NTL + (1 - m) x 1.01 x worst).

    m is the probability of all number tokens together, under the softmax over all columns; `worst`
    is the NTL of the farthest pair of number tokens, so that a word costs more than any number.

    From hidden states the backward pass computes the logits of number positions once more, as the
    gradient of m reaches every column.
    """

    def _compute(
        self, labels: Tensor, counts: Mapping[str, Tensor], cross_entropy: CrossEntropyFunction
    ) -> LossOutput:
        numbers = self._numbers(labels)
        ce, log_p = self._mean_cross_entropy(
            labels, numbers, counts, cross_entropy, normalised=True
        )
        m = only_numbers(log_p, numbers).exp().sum(-1)

        def reweighed(p: Tensor, places: Tensor) -> Tensor:
            miss = WORSE_THAN_ANY_NUMBER * self._worst().to(p.dtype)
            return m * self._distance(p, places) + (1 - m) * miss

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
    """NTL-L_p, reweighed. NOTE: `worst` is taken over all pairs of values; ntloss takes that of the
    least and the greatest, which is the same unless the distance is not monotone (`modular`)."""

    def _worst(self) -> Tensor:
        return self.distance(self.values[:, None], self.values).max()
