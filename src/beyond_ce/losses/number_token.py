"""Number Token Loss (Zausinger, Pennig et al. 2025, arXiv:2411.02083): CE + lambda x NTL.

NTL only looks at positions whose label is a number token, and there only at p, the softmax over the
number tokens' logits alone. v_j is the value of number token j, y_i the value of label i. Each
class here is a variant of NTL: a way to measure how far p is from y.

Shapes: N positions, K number tokens, G distinct values.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from beyond_ce.errors import UsageError
from beyond_ce.losses.base import IGNORED, LossOutput, TokenLoss, mean
from beyond_ce.losses.distances import Distance, absolute, squared, squashed
from beyond_ce.losses.sparse_cross_entropy import CrossEntropyFunction
from beyond_ce.settings import WEIGHT, takes


class NumberLoss(TokenLoss):
    """A loss that knows which tokens are numbers. Its tables are indexed like `number_ids`."""

    number_ids: Tensor  # long [K], the number tokens
    values: Tensor  # float [K], their values
    number_index: Tensor  # long [V + 1]: a token's index in number_ids or -1; last entry: ids >= V

    def __init__(self, number_values: Tensor) -> None:
        super().__init__(number_values)
        ids = number_values.isfinite().nonzero().squeeze(1)
        if len(ids) == 0:
            raise UsageError(
                f"{type(self).__name__} needs number tokens and this tokenizer has no number "
                "tokens: choose tokenizer=digit or loss=ce"
            )
        number_index = torch.full((len(number_values) + 1,), -1, device=ids.device)
        number_index[ids] = torch.arange(len(ids), device=ids.device)
        values = number_values[ids].to(torch.promote_types(number_values.dtype, torch.float32))
        # Not persistent, because the tables follow from the configuration.
        self.register_buffer("number_ids", ids, persistent=False)
        self.register_buffer("number_index", number_index, persistent=False)
        self.register_buffer("values", values, persistent=False)

    def counts(self, labels: Tensor) -> dict[str, Tensor]:
        numbers = self._numbers(labels)
        return super().counts(labels) | {"numbers": (numbers >= 0).sum()}

    def _numbers(self, labels: Tensor) -> Tensor:
        """Each label's index in `number_ids`, negative if it is not a number token."""
        tokens = labels.clamp(max=self.vocab_size).masked_fill_(labels < 0, self.vocab_size)
        return self.number_index[tokens]

    def _mean_cross_entropy(
        self,
        labels: Tensor,
        numbers: Tensor,
        counts: Mapping[str, Tensor],
        cross_entropy: CrossEntropyFunction,
        smoothed: Tensor | None = None,
        normalised: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy, and the number logits [N, K]: log-probabilities if `normalised`, else
        only meant for a softmax over the number tokens.

        `smoothed` [K, K] replaces the one-hot target of every number label by a distribution.
        """
        ignored, target = labels == IGNORED, None
        one_hot = ~ignored
        if smoothed is not None:
            one_hot = one_hot & (numbers < 0)
            target = mask_non_numbers(smoothed[numbers.clamp(min=0)], numbers)
        labels = labels.masked_fill(ignored, 0)
        sums = cross_entropy(
            labels=labels,
            label_weight=one_hot,
            number_ids=self.number_ids,
            number_target=target,
            normalised=normalised,
        )
        return mean(sums.nll, counts["tokens"]), sums.number_logits


class NumberTokenLoss(NumberLoss):
    """CE + `weight` x NTL; terms "ce" and "ntl" (unweighted), each a mean over its positions.

    `weight` is the paper's lambda.
    """

    @takes(
        "loss",
        weight=WEIGHT,
    )
    def __init__(self, number_values: Tensor, weight: float = 0.3) -> None:
        super().__init__(number_values)
        self.weight = weight

    @abstractmethod
    def _distance(self, p: Tensor, numbers: Tensor) -> Tensor:
        """NTL [N] between p [N, K] and the labels, which `numbers` [N] gives as indices into
        `number_ids`."""

    def _compute(
        self, labels: Tensor, counts: Mapping[str, Tensor], cross_entropy: CrossEntropyFunction
    ) -> LossOutput:
        numbers = self._numbers(labels)
        ce, number_logits = self._mean_cross_entropy(labels, numbers, counts, cross_entropy)
        ntl = mean_over_numbers(self._distance, number_logits, numbers, counts)
        return LossOutput(ce + self.weight * ntl, {"ce": ce, "ntl": ntl})


class WassersteinLoss(NumberTokenLoss):
    """NTL-WAS, the Wasserstein-1 distance of p to the one-hot label: sum_j p_j c(y, v_j).

    With |y - v| as `cost` this is the paper's NTL-WAS; with another it is the optimal transport
    cost for that. Tokens of the same value cost the same; values need not be sorted or evenly
    spaced.
    """

    costs: Tensor  # float [K, K]

    def __init__(
        self, number_values: Tensor, weight: float = 0.3, cost: Distance = absolute
    ) -> None:
        super().__init__(number_values, weight)
        self.register_buffer("costs", cost(self.values[:, None], self.values), persistent=False)

    def _distance(self, p: Tensor, numbers: Tensor) -> Tensor:
        return (p * self.costs[numbers].to(p.dtype)).sum(-1)


class ExpectedValueLoss(NumberTokenLoss):
    """NTL-L_p, a regression loss on the expected value: l(y, sum_j p_j v_j).

    `distance` is l: `squared` for NTL-MSE, `absolute` for NTL-MAE, `huber` for NTL-Huber. The
    minimum is not unique: half the mass on 0 and half on 8 also gives a loss of 0 for label 4.
    """

    def __init__(
        self, number_values: Tensor, weight: float = 0.3, distance: Distance = squared
    ) -> None:
        super().__init__(number_values, weight)
        if getattr(distance, "func", distance) is squashed:
            raise UsageError(
                "loss.distance=squashed is no distance between two numbers, as it depends on all "
                "that it is given at once: use it as loss.cost of loss=ntl_was, or loss=ntl_huber"
            )
        self.distance = distance

    def _distance(self, p: Tensor, numbers: Tensor) -> Tensor:
        values = self.values.to(p.dtype)
        return self.distance(values[numbers], (p * values).sum(-1))


class CumulativeWassersteinLoss(NumberTokenLoss):
    """NTL-WAS-CDF: the Wasserstein-1 distance as the area between the two CDFs.

    Equals `WassersteinLoss` for one-hot labels; the paper needs it for labels that are not.
    """

    def __init__(self, number_values: Tensor, weight: float = 0.3) -> None:
        super().__init__(number_values, weight)
        self.cdf_distance = CDFDistance(self.values, torch.eye(len(self.values)))

    def _distance(self, p: Tensor, numbers: Tensor) -> Tensor:
        return self.cdf_distance(p, numbers)


class CDFDistance(nn.Module):
    """sum_g |CDF_p(g) - CDF_label(g)| x spacing, over the G distinct values in ascending order.

    Tokens of the same value count as one. NOTE: the factor `spacing`, 1 for digits, is not in the
    paper's formula; it puts the distance in the unit of the values, whatever their spacing.
    """

    group: Tensor  # long [K]: each number token's index among the distinct values
    label_cdf: Tensor  # float [K, G]

    def __init__(self, values: Tensor, label_distribution: Tensor) -> None:
        """`values` [K]; `label_distribution` [K, K], one row per label.

        Raises UsageError if the distinct values are not evenly spaced.
        """
        super().__init__()
        distinct, group = values.unique(sorted=True, return_inverse=True)
        gaps = distinct.diff()
        self.spacing = float(gaps.mean()) if len(gaps) else 1.0
        if not torch.allclose(gaps, gaps.new_tensor(self.spacing), rtol=1e-5, atol=0):
            raise UsageError(
                f"NTL-WAS-CDF needs evenly spaced number tokens, but the gaps between this "
                f"tokenizer's values run from {gaps.min():g} to {gaps.max():g}: choose "
                "loss=ntl_was, or tokenizer=digit"
            )
        self.register_buffer("group", group, persistent=False)
        self.distinct = len(distinct)
        label_cdf = self._cdf(label_distribution.to(values))
        self.register_buffer("label_cdf", label_cdf, persistent=False)

    def forward(self, p: Tensor, numbers: Tensor) -> Tensor:
        """Distance [N] between p [N, K] and the labels with the indices `numbers` [N]."""
        gap = self._cdf(p) - self.label_cdf[numbers].to(p.dtype)
        return gap.abs().sum(-1) * self.spacing

    def _cdf(self, p: Tensor) -> Tensor:
        mass = p.new_zeros(len(p), self.distinct)
        return mass.index_add(1, self.group, p).cumsum(-1)


def mean_over_numbers(
    distance: Callable[[Tensor, Tensor], Tensor],
    number_logits: Tensor,
    numbers: Tensor,
    counts: Mapping[str, Tensor],
) -> Tensor:
    """Mean over number positions of `distance`(p [N, K], indices [N]); 0 if there are none.

    We compute all rows and mask those that are not numbers: selecting rows would make an
    accelerator wait for their count, and K is small compared to the vocabulary.
    """
    p = torch.softmax(mask_non_numbers(number_logits, numbers), -1)
    per_row = distance(p, numbers.clamp(min=0)).masked_fill(numbers < 0, 0)
    return mean(per_row.sum(), counts["numbers"])


def mask_non_numbers(rows: Tensor, numbers: Tensor) -> Tensor:
    """`rows` [N, K] with zeros where the label is not a number: a NaN there must not reach a
    gradient."""
    return rows.masked_fill(numbers[:, None] < 0, 0)
