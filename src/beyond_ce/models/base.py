"""What every language model offers: a trunk, a head, and decoding token by token.

Shapes: B sequences, S input tokens, T target positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from beyond_ce.data.batch import Batch
from beyond_ce.models.heads import Head


class DecodingState(ABC):
    """What a model remembers of B sequences between two decoding steps."""

    @abstractmethod
    def select(self, rows: Tensor) -> None:
        """Keeps the given rows (long [B'], repeats allowed), in that order, in place."""


class LanguageModel(nn.Module, ABC):
    """A trunk that yields hidden states and a head that turns them into logits.

    The head may be wider than the vocabulary (padded embeddings): training sees all columns,
    decoding only the first `vocab_size`, so that every generated id has a token.
    """

    head: Head

    def __init__(self, vocab_size: int, pad_id: int, eos_id: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.pad_id = pad_id
        self.eos_id = eos_id

    @abstractmethod
    def make_batch(self, prompts: list[list[int]], answers: list[list[int]]) -> Batch:
        """The training batch of B pairs of token lists; answers end in EOS already."""

    @abstractmethod
    def trunk(self, batch: Batch) -> Tensor:
        """Hidden states [B, T, D], one for every label of the batch."""

    @abstractmethod
    def prefill(
        self, prompts: list[list[int]], max_new_tokens: int
    ) -> tuple[DecodingState, Tensor]:
        """Reads the prompts; returns the state and the logits [B, V] of each first new token."""

    @abstractmethod
    def step(self, state: DecodingState, tokens: Tensor) -> Tensor:
        """Appends one token to each sequence (long [B]), advances the state in place and returns
        the logits [B, V] of the next one."""

    def next_token_logits(self, hidden: Tensor) -> Tensor:
        """Logits [B, V] of the next token from hidden states [B, D], padded columns cut off."""
        return self.head.logits(hidden[:, None])[:, 0, : self.vocab_size]
