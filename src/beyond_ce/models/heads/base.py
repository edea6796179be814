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

    loss_weights: tuple[float, ...] = (1.0,)
    """Of each offset's loss in the total."""

    @abstractmethod
    def logits(self, hidden: Tensor, offset: int = 0) -> Tensor:
        """Logits [B, T, V] of the token `offset` places after the next one, from [B, T, D].

        A head with another `target` gives what its losses take instead.
        """

    def unembedding(self, offset: int = 0) -> Tensor | None:
        """The matrix [V, D] for which `logits(hidden, offset) == features(hidden, offset) @
        matrix.T`, if one exists. Losses then never hold all logits."""
        return None

    # The way of an offset from the trunk's output to its features, in steps, so that a training
    # step can go through the heads one at a time: `advance` from the state of `source`, `output`.

    def source(self, offset: int) -> int | None:
        """The offset whose state this one starts from; None for the trunk's output."""
        return None

    def path(self, offset: int) -> list[int]:
        """The offsets whose states lead from the trunk's output to this one's, in order."""
        source = self.source(offset)
        return [offset] if source is None else [*self.path(source), offset]

    def advance(self, hidden: Tensor, offset: int) -> Tensor:
        """The offset's state [B, T, D] from that of its source."""
        return hidden

    def output(self, state: Tensor) -> Tensor:
        """Features [B, T, D] from an offset's state."""
        return state

    def features(self, hidden: Tensor, offset: int = 0) -> Tensor:
        """What the unembedding takes, [B, T, D], from the trunk's output [B, T, D]."""
        state = hidden
        for step in self.path(offset):
            state = self.advance(state, step)
        return self.output(state)

    def share(self, unembedding: nn.Parameter) -> None:
        """Takes the trunk's matrix [V, D] in place of the head's own, for tied embeddings and
        pretrained weights. Heads that have no unembedding leave it unused."""
