"""Base classes of the losses: their two entry points, denominators and output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from beyond_ce.losses.sparse_cross_entropy import (
    CrossEntropyFunction,
    linear_sparse_cross_entropy,
    sparse_cross_entropy,
)

IGNORED = -100
"""The label of positions without a target."""


@dataclass(frozen=True)
class LossOutput:
    """The `total` and its named terms, unweighted; all differentiable scalars."""

    total: Tensor
    terms: dict[str, Tensor]


class Loss(nn.Module, ABC):
    """A training objective: a function of a head's output and labels, with one mean per term."""

    target: ClassVar[str]
    """What the head must predict (see `Head.target`)."""
    exact_in_half: ClassVar[bool] = False
    """Whether it compares no numbers, which trainer.precision=bf16-true would round."""

    @abstractmethod
    def forward(
        self, predictions: Tensor, labels: Tensor, /, counts: Mapping[str, Tensor] | None = None
    ) -> LossOutput:
        """Loss of the head's output for `labels`; their shapes depend on `target`.

        Args:
            counts: denominators to use instead of the batch's own. If several batches all use their
                summed `counts`, their losses and gradients add up to those of one large batch.
        """

    def from_hidden(
        self,
        hidden: Tensor,
        unembedding: Tensor,
        labels: Tensor,
        counts: Mapping[str, Tensor] | None = None,
    ) -> LossOutput:
        """The same for the logits `hidden` [B, T, D] @ `unembedding` [V', D].T.

        This default builds the logits; losses that do not need them override it.
        """
        return self(hidden @ unembedding.T, labels, counts)

    @abstractmethod
    def counts(self, labels: Tensor) -> dict[str, Tensor]:
        """The denominators for `labels`, as scalars: the number of positions in each mean."""


class TokenLoss(Loss):
    """A loss on logits [B, T, V'] and labels [B, T], which are already shifted; -100 is ignored.

    V' may exceed the tokenizer's size: columns of a padded embedding take part in the softmax but
    are not number tokens. Labels outside [0, V') raise ValueError on a CPU (on other devices the
    check would force a synchronisation; there the device's own assertion fires). Without any label
    the loss is 0.
    """

    target: ClassVar[str] = "tokens"

    def __init__(self, number_values: Tensor) -> None:
        """`number_values` float [V]: each token's value, NaN for tokens that are not numbers."""
        super().__init__()
        self.vocab_size = len(number_values)

    def forward(
        self, logits: Tensor, labels: Tensor, counts: Mapping[str, Tensor] | None = None
    ) -> LossOutput:
        """Loss of `logits` [B, T, V']; `counts` as for any `Loss`."""
        self._check(labels, logits.shape[:-1], logits.shape[-1])
        function = partial(sparse_cross_entropy, logits.flatten(0, -2))
        return self._compute(self._positions(labels), counts or self.counts(labels), function)

    def from_hidden(
        self,
        hidden: Tensor,
        unembedding: Tensor,
        labels: Tensor,
        counts: Mapping[str, Tensor] | None = None,
    ) -> LossOutput:
        """The same for the logits `hidden` [B, T, D] @ `unembedding` [V', D].T, which are never
        held in full. The graph allows one backward pass.
        """
        self._check(labels, hidden.shape[:-1], len(unembedding))
        positions, hidden = self._positions(labels), hidden.flatten(0, -2)
        counts = counts or self.counts(labels)
        if not torch.compiler.is_compiling():  # a data-dependent shape would break the graph
            kept = (labels.flatten() != IGNORED).nonzero().squeeze(1)
            if len(kept) < len(positions):
                positions, hidden = positions[kept], hidden[kept]
        function = partial(linear_sparse_cross_entropy, hidden, unembedding)
        return self._compute(positions, counts, function)

    def counts(self, labels: Tensor) -> dict[str, Tensor]:
        return {"tokens": (labels != IGNORED).sum()}

    def _positions(self, labels: Tensor) -> Tensor:
        """`labels` [B, T] flattened to N = B x T positions; ignored ones may be dropped before
        `_compute`. A loss that needs a position's neighbours adds what it needs as further columns
        [N, ...]."""
        return labels.flatten()

    @abstractmethod
    def _compute(
        self, labels: Tensor, counts: Mapping[str, Tensor], cross_entropy: CrossEntropyFunction
    ) -> LossOutput:
        """The loss for the `_positions` [N]; `cross_entropy` works on the logits at these."""

    def _check(self, labels: Tensor, rows: torch.Size, width: int) -> None:
        if labels.shape != rows:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)}, the predictions need {tuple(rows)}"
            )
        if width < self.vocab_size:
            raise ValueError(
                f"the logits have {width} columns, fewer than the vocabulary's {self.vocab_size}"
            )
        if torch.compiler.is_compiling() or labels.device.type != "cpu" or labels.numel() == 0:
            return
        low, high = labels.masked_fill(labels == IGNORED, 0).aminmax()
        if low < 0 or high >= width:
            wrong = low if low < 0 else high
            raise ValueError(
                f"label {int(wrong)} is outside the {width} columns of the logits "
                f"(only {IGNORED} marks an ignored position)"
            )


def mean(total: Tensor, count: Tensor) -> Tensor:
    """`total` / `count`, or 0 if `count` is 0. A device's share of a count may be below 1."""
    return total / count.masked_fill(count == 0, 1)
