"""What the trainer minimises: a model's head through a loss, as one module."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Objective(nn.Module):
    """A model and a loss as one module, so that any parallel strategy wraps the whole step.

    Where the head is a plain unembedding, the loss is computed from the hidden states and the
    [B, T, V] logits are never materialised.
    """

    def __init__(self, model: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        self.loss: Any = loss

    def forward(
        self, batch: Any, counts: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss (scalar) and its named terms.

        Args:
            batch: the model's own `Batch`.
            counts: denominators to use instead of the batch's own (see `Loss.counts`).
        """
        hidden = self.model.trunk(batch)
        unembedding = self.model.head.unembedding()
        if unembedding is None:
            out = self.loss(self.model.head.logits(hidden), batch.labels, counts)
        else:
            out = self.loss.from_hidden(hidden, unembedding, batch.labels, counts)
        return out.total, out.terms
