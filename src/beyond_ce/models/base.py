"""The base classes of the language models: a trunk, a head, and decoding token by token.

Shapes: B sequences, S input tokens, T target positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beyond_ce.batches.batch import Batch, Numbers, decoder_only_batch, packed_batch, value_batch
from beyond_ce.errors import UsageError
from beyond_ce.models.heads import Head, RegressionHead

if TYPE_CHECKING:
    from beyond_ce.models.shared_prefix import SharedPrefix

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The precisions that settings name."""


class DecodingState(ABC):
    """A model's state for B sequences between two decoding steps."""

    @abstractmethod
    def select(self, rows: Tensor) -> None:
        """Keeps the given rows (long [B'], repeats allowed) in the given order; works in place."""


class LanguageModel(nn.Module, ABC):
    """A trunk that yields hidden states and a head that turns them into logits.

    The head may be wider than the vocabulary (padded embeddings): training sees all columns,
    decoding only the first `vocab_size`, so every generated id is a token.
    """

    embedding: nn.Embedding
    targets: ClassVar[tuple[str, ...]] = ("tokens", "value")
    """The head targets that the model can train (see `Head.target`)."""
    reads_numbers: ClassVar[bool] = False
    """Whether the model needs a tokenizer that carries numbers besides ids."""
    needs_prompt: ClassVar[bool] = True
    """Whether generation needs at least one prompt token, as in decoder-only models."""
    provides_layers: ClassVar[bool] = False
    """Whether a head can take layers from the trunk (see `MultiTokenHead`)."""
    drafts: ClassVar[bool] = False
    """Whether it can decode with several heads, which draft what head 1 then checks."""

    max_length: int | None = None
    """Longest sequence in tokens, prompt and answer together; None for no limit."""
    head: Head

    def __init__(self, vocab_size: int, pad_id: int, eos_id: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.pad_id = pad_id
        self.eos_id = eos_id

    def add_encodings(self, encodings: Tensor) -> None:
        """Makes the embedding add fixed encodings [V, D] to its output.

        The state dict and a tied unembedding do not change.
        """
        self.embedding = EncodedEmbedding(self.embedding, encodings)

    @abstractmethod
    def make_batch(
        self,
        prompts: list[list[int]],
        answers: list[list[int]],
        numbers: Numbers | None = None,
    ) -> Batch:
        """The training batch of B pairs of token lists; answers already end in EOS.

        Args:
            numbers: the numbers of the same examples; needed if the head predicts values.
        """

    def packed_batch(self, rows: Tensor) -> Batch:
        """The training batch of rows of a corpus, long [B, T + 1] (see `PackedTokens`).

        Raises:
            UsageError: the model cannot train on a corpus.
        """
        raise UsageError(
            f"model {type(self).__name__} answers prompts and cannot train on a corpus: choose "
            "model=decoder_tiny or model=causal_lm, or another dataset"
        )

    @abstractmethod
    def trunk(self, batch: Batch) -> Tensor:
        """Hidden states [B, T, D], one per label of the batch."""

    @abstractmethod
    def prefill(
        self, prompts: list[list[int]], max_new_tokens: int
    ) -> tuple[DecodingState, Tensor]:
        """Reads the prompts; returns the state and the logits [B, V] of the first new tokens."""

    @abstractmethod
    def step(self, state: DecodingState, tokens: Tensor) -> Tensor:
        """Appends one token to each sequence (long [B]), advances the state in place and returns
        the logits [B, V] of the next tokens."""

    def next_token_logits(self, hidden: Tensor) -> Tensor:
        """Logits [B, V] of the next token from hidden states [B, D], without padded columns."""
        return self.head.logits(hidden[:, None])[:, 0, : self.vocab_size]


class CausalModel(LanguageModel):
    """A decoder-only model: reads a prompt and its answer as one sequence, or rows of a corpus.

    Attributes:
        max_length: size of its context in tokens, or None if it has no limit.
    """

    max_length: int | None

    def make_batch(
        self,
        prompts: list[list[int]],
        answers: list[list[int]],
        numbers: Numbers | None = None,
    ) -> Batch:
        if isinstance(self.head, RegressionHead):
            batch = value_batch(prompts, self.head.targets(numbers), self.pad_id)
        else:
            batch = decoder_only_batch(prompts, answers, self.pad_id)
        self.check_length(batch.input_ids.shape[1])
        return batch

    def packed_batch(self, rows: Tensor) -> Batch:
        """The training batch of rows of a corpus, long [B, T + 1] (see `PackedTokens`).

        Raises:
            UsageError: the rows are too long for the model, or the head does not predict tokens.
        """
        length = rows.shape[1] - 1
        if self.max_length is not None and length > self.max_length:
            raise UsageError(
                f"dataset.sequence_length={length} exceeds the model's context of "
                f"{self.max_length} tokens: lower it, or choose another model or model.max_length"
            )
        if self.head.target != "tokens":
            raise UsageError(
                f"head {type(self.head).__name__} predicts no tokens and cannot train on a corpus: "
                "choose head=lm and loss=ce, or another dataset"
            )
        return packed_batch(rows, self.eos_id)

    @abstractmethod
    def check_length(self, length: int) -> None:
        """Raises UsageError if prompt and answer together do not fit into the context."""

    def shared_prefix(self, offset: int = 0) -> SharedPrefix | None:
        """An empty sequence that can be continued in several ways, to read what they have in common
        once; None if the model cannot.

        Args:
            offset: of the head whose features are asked for, 0 for that of the next token.
        """
        return None


class EncodedEmbedding(nn.Embedding):
    """An embedding plus a fixed encoding of each token.

    The weight is the original embedding's parameter, under the same name. The encodings are not in
    checkpoints, because the tokenizer can make them again.

    Args:
        embedding: the learned embedding; rows beyond the encodings are padding.
        encodings: [V, D].
    """

    encodings: Tensor

    def __init__(self, embedding: nn.Embedding, encodings: Tensor) -> None:
        rows, dim = embedding.weight.shape
        super().__init__(rows, dim, _weight=embedding.weight)
        self.weight = embedding.weight  # the parameter itself, because the unembedding may share it
        self.register_buffer("encodings", encodings.to(embedding.weight), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + F.embedding(input, self.encodings)


def last_state(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The state [B, 1, D] of each row's last token; `hidden` [B, S, D] is padded on the right."""
    last = attention_mask.sum(dim=1, keepdim=True) - 1
    return hidden.take_along_dim(last[..., None], dim=1)


def mean_state(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean [B, 1, D] over each row's tokens of `hidden` [B, S, D]."""
    tokens = attention_mask[..., None].to(hidden.dtype)
    return (hidden * tokens).sum(dim=1, keepdim=True) / tokens.sum(dim=1, keepdim=True)
