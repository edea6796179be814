"""Turns token lists into the padded tensors that a model trains on.

Shapes: B examples, S input tokens, T target tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from beyond_ce.errors import UsageError
from beyond_ce.losses.base import IGNORED


@dataclass
class Numbers:
    """The numbers of B examples, for heads and models that need more than token ids.

    All are float64 values as written in the text; NaN means "no number".
    """

    answers: list[float]
    """The last number of each answer's text."""
    prompt_tokens: list[list[float]] | None = None
    """A number for every token of each prompt, from tokenizers whose tokens carry numbers."""
    answer_tokens: list[list[float]] | None = None
    """The same for the answers."""


@dataclass
class Batch:
    """Examples padded on the right.

    `labels[b, t]` is the target of the hidden state at `[b, t]`: labels are already shifted.
    """

    input_ids: Tensor
    """[B, S] long."""
    attention_mask: Tensor
    """[B, S] bool, True on tokens and False on padding."""
    labels: Tensor
    """[B, T] long, `IGNORED` where nothing is predicted; T = S for decoder-only models.

    For heads that predict a value: [B, 1] float. For heads that predict tokens and values:
    [B, T, 2] float, token id and value. NaN is ignored."""
    decoder_input_ids: Tensor | None = None
    """[B, T] long for encoder-decoder models that predict tokens, else None."""
    input_numbers: Tensor | None = None
    """[B, S] float, the factor on each input token's embedding; None if the model has none."""
    segments: Tensor | None = None
    """[B, T] long, the index of each input token's document within its row; None if every row is
    a single document."""

    def to(self, device: torch.device | str) -> Batch:
        """A copy on the device; do not change the source before a synchronisation."""
        tensors = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if value is not None
        }
        return replace(self, **tensors)

    def without_labels(self) -> Batch:
        """The same inputs, of which nothing is predicted."""
        ignored = math.nan if self.labels.is_floating_point() else IGNORED
        return replace(self, labels=torch.full_like(self.labels, ignored))


def pad(rows: Sequence[Sequence[float]], value: float) -> Tensor:
    """Rows of any length as one tensor [len(rows), longest], padded with `value` on the right.

    The dtype is long if rows and `value` are integers.
    """
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def token_mask(rows: Sequence[Sequence[int]]) -> Tensor:
    """Bool [len(rows), longest]: True on the tokens of `pad(rows)`, False on its padding."""
    lengths = torch.tensor([len(row) for row in rows])
    return torch.arange(int(lengths.max())) < lengths[:, None]


def unlabelled(tokens: Tensor) -> Batch:
    """`tokens` [B, S] long, without padding, for a model that only reads them."""
    labels = torch.full_like(tokens, IGNORED)
    return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool), labels)


def encoder_decoder_batch(
    prompts: list[list[int]], answers: list[list[int]], pad_id: int, start_id: int
) -> Batch:
    """The encoder reads the prompt; the decoder reads the shifted answer and predicts it.

    Answers already end in EOS; the decoder's input starts with `start_id`.
    """
    return Batch(
        input_ids=pad(prompts, pad_id),
        attention_mask=token_mask(prompts),
        labels=pad(answers, IGNORED),
        decoder_input_ids=pad([[start_id, *answer[:-1]] for answer in answers], pad_id),
    )


def decoder_only_batch(prompts: list[list[int]], answers: list[list[int]], pad_id: int) -> Batch:
    """Prompt and answer as one sequence; only the answer's tokens are targets.

    Answers already end in EOS. The input ends before the last token, which has no next token.

    Raises:
        UsageError: a prompt is empty: nothing would predict the first token of its answer.
    """
    _check_prompts(prompts)
    pairs = list(zip(prompts, answers, strict=True))
    rows = [prompt + answer[:-1] for prompt, answer in pairs]
    labels = [[IGNORED] * (len(prompt) - 1) + answer for prompt, answer in pairs]
    return Batch(
        input_ids=pad(rows, pad_id),
        attention_mask=token_mask(rows),
        labels=pad(labels, IGNORED),
    )


def value_batch(prompts: list[list[int]], targets: Tensor, pad_id: int) -> Batch:
    """Prompts, and the value that the head must predict for each: `targets` float [B].

    Raises:
        UsageError: a prompt is empty.
    """
    _check_prompts(prompts)
    return Batch(
        input_ids=pad(prompts, pad_id),
        attention_mask=token_mask(prompts),
        labels=targets[:, None],
    )


def packed_batch(rows: Tensor, eos_id: int) -> Batch:
    """Rows of a corpus as inputs and labels: `rows` long [B, T + 1], documents end in `eos_id`.

    An end token has no label, so no document is predicted from another. As is common with packed
    text, attention does look back across the documents in a row.
    """
    inputs, labels = rows[:, :-1], rows[:, 1:]
    ends = inputs == eos_id
    return Batch(
        input_ids=inputs,
        attention_mask=torch.ones_like(ends),
        labels=labels.masked_fill(ends, IGNORED),
        segments=ends.cumsum(dim=1) - ends.long(),
    )


def future_labels(labels: Tensor, segments: Tensor | None, offset: int) -> Tensor:
    """The labels of the head at `offset`: `labels` [B, T] shifted left by `offset`.

    Labels beyond the end of a row and in another document are ignored (`segments` [B, T] as in
    `Batch`).
    """
    shifted = torch.full_like(labels, IGNORED)
    shifted[:, : max(0, labels.shape[1] - offset)] = labels[:, offset:]
    if segments is not None:
        other = segments[:, offset:] != segments[:, : max(0, labels.shape[1] - offset)]
        shifted[:, : other.shape[1]].masked_fill_(other, IGNORED)
    return shifted


def _check_prompts(prompts: list[list[int]]) -> None:
    if not all(prompts):
        raise UsageError(
            "a decoder-only model cannot answer an empty prompt: "
            "drop examples with empty prompts or start every prompt with a token"
        )
