"""xVal (Golkar et al. 2023, arXiv:2310.02989): a number scales the embedding of its token.

The encoder is the same as in xVal's own code and in the NTL paper's xVal runs: bidirectional, with
norms before the sublayers and learned positions.

Shapes: B sequences, S input tokens, K answer slots, D hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn

import torch
from torch import Tensor, nn

from beyond_ce.batches.batch import Batch, Numbers, pad, token_mask
from beyond_ce.data.numbers import log_scale
from beyond_ce.errors import UsageError
from beyond_ce.models.base import DecodingState, LanguageModel
from beyond_ce.models.heads import Head
from beyond_ce.settings import DROPOUT, LAYERS, SIZE, takes, whole


class XVal(LanguageModel):
    """An encoder that fills in masks: the input is the prompt followed by `answer_slots` masks.

    Slot k predicts token k of the answer, end token included. All slots are filled at once, and the
    input does not depend on the answer's length. Each slot has its own mask token: positions alone
    would not identify the slots after a prompt of a length that was not in training.

    A number enters as sign(x) log(1 + |x|), as in the NTL paper, multiplied with the embedding of
    its token; all other tokens have a factor of 1.

    Args:
        vocab_size, pad_id, eos_id: the tokenizer's.
        head: builds the head from `dim` and `vocab_size`.
        dim: hidden size D.
        num_layers, num_heads, ff_dim: the encoder's; `ff_dim` is the feed-forward size.
        max_length: longest sequence in tokens, slots included.
        answer_slots: K; 2 if every answer is one number (and the end token).
        dropout: rate everywhere in the encoder.

    Raises:
        UsageError: `dim` does not divide into heads, or `answer_slots` is below 1.
    """

    targets = ("tokens and values",)
    reads_numbers = True
    max_length: int

    @takes(
        "model",
        dim=SIZE,
        num_layers=LAYERS,
        num_heads=SIZE,
        ff_dim=SIZE,
        max_length=whole(1, 2**24),
        answer_slots=whole(1, 2**16),
        dropout=DROPOUT,
    )
    def __init__(
        self,
        vocab_size: int,
        pad_id: int,
        eos_id: int,
        head: Callable[..., Head],
        dim: int,
        num_layers: int,
        num_heads: int,
        ff_dim: int,
        max_length: int,
        answer_slots: int,
        dropout: float,
    ) -> None:
        super().__init__(vocab_size, pad_id, eos_id)
        if dim % num_heads:
            raise UsageError(
                f"model.dim={dim} does not divide into {num_heads} heads: make it a multiple of "
                f"{num_heads}"
            )
        self.answer_slots = answer_slots
        self.max_length = max_length
        self.embedding = nn.Embedding(vocab_size + answer_slots, dim)  # the masks come last
        self.positions = nn.Embedding(max_length, dim)
        # Not nn.TransformerEncoder, which initialises all layers with the same weights.
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, num_heads, ff_dim, dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = head(dim=dim, vocab_size=vocab_size)

    def make_batch(
        self,
        prompts: list[list[int]],
        answers: list[list[int]],
        numbers: Numbers | None = None,
    ) -> Batch:
        """Labels [B, K, 2] of token ids and log-scaled numbers.

        Raises:
            UsageError: an answer has more tokens than there are slots, or a sequence is longer
                than `max_length`.
        """
        if numbers is None or numbers.prompt_tokens is None or numbers.answer_tokens is None:
            raise ValueError(
                "xVal needs the numbers of prompts and answers: give them as `numbers`"
            )
        self._check_answers(answers, numbers.answers)
        masks = range(self.vocab_size, self.vocab_size + self.answer_slots)
        rows = [[*prompt, *masks] for prompt in prompts]
        self._check_length(max(map(len, rows)))
        factors = [
            [*map(_factor, values), *[1.0] * self.answer_slots] for values in numbers.prompt_tokens
        ]
        slots = [math.nan] * self.answer_slots
        # An extra row sets the width to K, because all answers may be shorter.
        ids = pad([*answers, slots], math.nan)[:-1]
        values = pad(
            [*([log_scale(value) for value in row] for row in numbers.answer_tokens), slots],
            math.nan,
        )[:-1]
        return Batch(
            input_ids=pad(rows, self.pad_id),
            attention_mask=token_mask(rows),
            labels=torch.stack((ids, values), dim=-1),
            input_numbers=pad(factors, 1.0),
        )

    def trunk(self, batch: Batch) -> Tensor:
        """Hidden states [B, K, D] of the answer slots."""
        assert batch.input_numbers is not None
        embedded = self.embedding(batch.input_ids)
        hidden = embedded * batch.input_numbers[..., None].to(embedded.dtype)
        hidden = hidden + self.positions.weight[: hidden.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=~batch.attention_mask)
        steps = torch.arange(-self.answer_slots, 0, device=hidden.device)
        slots = batch.attention_mask.sum(dim=1, keepdim=True) + steps
        return self.norm(hidden.take_along_dim(slots[..., None], dim=1))

    def prefill(self, prompts: list[list[int]], max_new_tokens: int) -> NoReturn:
        raise NotImplementedError("xVal fills in all answer slots at once: use answer()")

    def step(self, state: DecodingState, tokens: Tensor) -> NoReturn:
        raise NotImplementedError("xVal fills in all answer slots at once: use answer()")

    def _check_answers(self, answers: list[list[int]], numbers: list[float]) -> None:
        for answer, number in zip(answers, numbers, strict=True):
            if len(answer) > self.answer_slots:
                raise UsageError(
                    f"an answer of {len(answer)} tokens, end token included, whose last number is "
                    f"{number:g}, exceeds model.answer_slots={self.answer_slots}: "
                    f"set model.answer_slots={len(answer)} or more, or choose other data"
                )

    def _check_length(self, length: int) -> None:
        if length > self.max_length:
            raise UsageError(
                f"a prompt of {length - self.answer_slots} tokens and {self.answer_slots} answer "
                f"slots exceed the model's context of {self.max_length}: raise model.max_length "
                "or shorten the data"
            )


def _factor(number: float) -> float:
    return 1.0 if math.isnan(number) else log_scale(number)
