"""A loss on multi-digit numbers: `NumberLevelLoss` of the authors' package `ntloss`, not in the
paper.

Shapes: B sequences of T positions, N = B x T positions, K number tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from beyond_ce.errors import UsageError
from beyond_ce.losses.base import LossOutput, mean
from beyond_ce.losses.number_token import NumberLoss, mask_non_numbers
from beyond_ce.losses.sparse_cross_entropy import CrossEntropyFunction
from beyond_ce.settings import WEIGHT, takes

_POINT = -2  # marks decimal points in `number_index`; other tokens that are not numbers have -1


class NumberLevelLoss(NumberLoss):
    """CE + `weight` x mean over numbers of |yhat - y| / (yhat + y); terms "ce" and "ntl".

    A number is a maximal run of digits in a row of labels. A decimal point between two digits
    belongs to it (so "1.2.3" is one number); anything else ends it: a sign, a word, an ignored
    label, the end of the row. y is its value. yhat is the value with each digit replaced by its
    expected value sum_j p_j v_j, where p is the softmax over the number tokens alone. The mean runs
    over numbers, whatever their length.

    The distance is symmetric and relative, in [0, 1]. The sign and the position of the point are
    the label's for both y and yhat, so they scale both and cancel. We therefore count decimal
    places from the first digit: digit i weighs 10^-i, which is finite for numbers of any length.
    For y = 0 the distance stays at 1, nearly without gradient, until yhat is 0 too, as in ntloss.

    NOTE: ntloss treats a decimal point like this with `float_level=True`; by default, and here
    without `decimal_points`, 12.34 is the two numbers 12 and 34.
    """

    @takes(
        "loss",
        weight=WEIGHT,
    )
    def __init__(
        self, number_values: Tensor, weight: float = 0.3, decimal_points: Tensor | None = None
    ) -> None:
        """`decimal_points` bool [V]: the tokens that are a decimal point.

        Raises UsageError if a number token is not a single digit: its decimal place is unknown.
        """
        super().__init__(number_values)
        if not torch.isin(self.values, torch.arange(10).to(self.values)).all():
            raise UsageError(
                f"{type(self).__name__} weighs digits by their place and needs a token for each "
                f"digit, but this tokenizer has number tokens from {self.values.min():g} to "
                f"{self.values.max():g}: choose tokenizer=digit or loss=ntl_was"
            )
        self.weight = weight
        if decimal_points is not None:
            self.number_index[:-1][decimal_points] = _POINT

    def counts(self, labels: Tensor) -> dict[str, Tensor]:
        return super().counts(labels) | {"numbers": (self._offsets(labels) == 0).sum()}

    def _positions(self, labels: Tensor) -> Tensor:
        """[N, 2]: labels and `_offsets`."""
        return torch.stack([labels, self._offsets(labels)], -1).flatten(0, -2)

    def _offsets(self, labels: Tensor) -> Tensor:
        """Long [B, T]: each digit's index within its number, from 0; -1 where there is no digit."""
        index = self._numbers(labels)
        digit, point = index >= 0, index == _POINT
        continues = _previous(digit) | (_previous(point) & _previous(_previous(digit)))
        count = digit.cumsum(-1)
        first = torch.where(digit & ~continues, count, 0).cummax(-1).values
        return torch.where(digit, count - first, -1)

    def _compute(
        self, labels: Tensor, counts: Mapping[str, Tensor], cross_entropy: CrossEntropyFunction
    ) -> LossOutput:
        labels, offsets = labels.unbind(-1)
        numbers = self._numbers(labels)
        ce, number_logits = self._mean_cross_entropy(labels, numbers, counts, cross_entropy)
        p = torch.softmax(mask_non_numbers(number_logits, numbers), -1)
        values = self.values.to(p.dtype)
        digits = torch.stack([values[numbers.clamp(min=0)], (p * values).sum(-1)], -1)
        weights = torch.full_like(digits[:, 0], 10.0).pow(-offsets).masked_fill(offsets < 0, 0)
        # Row i adds up the digits of the i-th number. We allocate a row per position, because only
        # the device knows how many numbers there are.
        number = ((offsets == 0).cumsum(0) - 1).clamp(min=0)
        y, yhat = (
            torch.zeros_like(digits).index_add(0, number, weights[:, None] * digits).unbind(-1)
        )
        distance = (yhat - y).abs() / (yhat + y + torch.finfo(p.dtype).eps)
        ntl = mean(distance.sum(), counts["numbers"])
        return LossOutput(ce + self.weight * ntl, {"ce": ce, "ntl": ntl})


def _previous(mask: Tensor) -> Tensor:
    """`mask` [B, T] shifted right: each position gets the value of the one before it."""
    return F.pad(mask, (1, 0))[..., :-1]
