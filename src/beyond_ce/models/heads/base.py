"""What every head offers: the logits of one future token at a time.

Shapes: B examples, T positions, D hidden size, V vocabulary (padded embeddings included).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class Head(nn.Module, ABC):
    """Maps the trunk's hidden states to logits; built by the model as `head(dim=D, vocab_size=V)`.

    Offset 0 is the next token, offset n - 1 the furthest that the head predicts.
    """

    target: ClassVar[str] = "tokens"
    """What the head predicts, and the loss must be for: "tokens", "value" or "tokens and values".

    A head for "value" sees one hidden state per prompt, [B, 1, D]."""

    n: int = 1
    """Number of future offsets."""

    @abstractmethod
    def logits(self, hidden: Tensor, offset: int = 0) -> Tensor:
        """Logits [B, T, V] of the token `offset` places after the next one, from [B, T, D].

        A head with another `target` gives what its losses take instead.
        """

    def unembedding(self, offset: int = 0) -> Tensor | None:
        """The matrix [V, D] for which `logits(hidden, offset) == hidden @ matrix.T`, if one exists.

        Losses then work from the hidden states and never hold all logits.
        """
        return None

    def share(self, unembedding: nn.Parameter) -> None:
        """Takes the trunk's matrix [V, D] in place of the head's own, for tied embeddings and
        pretrained weights. Heads that have no unembedding leave it unused."""
