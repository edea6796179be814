"""The base class of the heads: logits for one future token at a time.

Shapes: B examples, T positions, D hidden size, V vocabulary (padded embeddings included).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class Head(nn.Module, ABC):
    """Maps the trunk's hidden states to logits; built by the model as `head(dim=D, vocab_size=V)`.

    Offset 0 is the next token, offset n - 1 the furthest token that the head predicts.
    """

    target: ClassVar[str] = "tokens"
    """What the head predicts: "tokens", "value" or "tokens and values". The loss must have the same
    target.

    A head for "value" gets one hidden state per prompt, [B, 1, D]."""

    n: int = 1
    """Number of future tokens."""

    reads_tokens: ClassVar[bool] = False
    """Whether later offsets also read the tokens between the position and the one they predict. The
    trunk's output then holds every token's embedding beside its state, [B, T, 2 D]."""

    takes_layers: ClassVar[bool] = False
    """Whether every such head takes layers from the trunk (see `LanguageModel.provides_layers`)."""

    loss_weights: tuple[float, ...] = (1.0,)
    """Weight of each offset's loss in the total."""

    @abstractmethod
    def logits(self, hidden: Tensor, offset: int = 0) -> Tensor:
        """Logits [B, T, V] of the token `offset` positions after the next one, from [B, T, D].

        A head with another `target` returns what the losses for that target expect.
        """

    def unembedding(self, offset: int = 0) -> Tensor | None:
        """The matrix [V, D] for which `logits(hidden, offset) == features(hidden, offset) @
        matrix.T`, if there is one. Losses then never hold all logits."""
        return None

    # The methods below compute an offset's features in steps, so a training step can run one head
    # at a time: take the state of `source`, `advance` it, and turn it into features with `output`.

    def source(self, offset: int) -> int | None:
        """The offset whose state this one starts from; None for the trunk's output."""
        return None

    def path(self, offset: int) -> list[int]:
        """The offsets to `advance` through, from the trunk's output to this offset, in order."""
        source = self.source(offset)
        return [offset] if source is None else [*self.path(source), offset]

    def advance(self, hidden: Tensor, offset: int) -> Tensor:
        """The offset's state [B, T, D] from its source's state [B, T, D]."""
        return hidden

    def output(self, state: Tensor) -> Tensor:
        """Features [B, T, D] from an offset's state."""
        return state

    def features(self, hidden: Tensor, offset: int = 0) -> Tensor:
        """The unembedding's input [B, T, D] from the trunk's output [B, T, D]."""
        state = hidden
        for step in self.path(offset):
            state = self.advance(state, step)
        return self.output(state)

    def count(self, labels: Tensor) -> None:
        """Called with the labels, long [B, T], of every batch in training, for a head whose
        decoding depends on how frequent tokens are."""

    def share(self, unembedding: nn.Parameter) -> None:
        """Replaces the head's unembedding by the model's [V, D], for tied embeddings and pretrained
        weights. Heads without an unembedding ignore it."""
