"""Token lists to the padded tensors a model trains on.

Shapes: B examples, S input tokens, T target tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from beyond_ce.errors import UsageError
from beyond_ce.losses.base import IGNORED


@dataclass
class Numbers:
    """The numbers of B examples, for heads and models that look beyond token ids.

    All are values as written in the text, in float64; NaN stands for "no number".
    """

    answers: list[float]
    """The last number of each answer's text."""
    prompt_tokens: list[list[float]] | None = None
    """One for every token of each prompt, from tokenizers whose tokens carry numbers."""
    answer_tokens: list[list[float]] | None = None
    """The same for the answers."""


@dataclass
class Batch:
    """Examples padded on the right.

    `labels[b, t]` is the target of the hidden state at `[b, t]`: it is already shifted.
    """

    input_ids: Tensor
    """[B, S] long."""
    attention_mask: Tensor
    """[B, S] bool, True on tokens and False on padding."""
    labels: Tensor
    """[B, T] long, `IGNORED` where nothing is predicted; T = S for decoder-only models.

    For a head that predicts a value: [B, 1] float. For one that predicts tokens and values:
    [B, T, 2] float, token id and value. NaN is ignored."""
    decoder_input_ids: Tensor | None = None
    """[B, T] long for encoder-decoder models that predict tokens, else None."""
    input_numbers: Tensor | None = None
    """[B, S] float, the factor of each input token's embedding; None for models without."""
    segments: Tensor | None = None
    """[B, T] long, the document that each input token belongs to, counted within its row; None
    where a row is one document."""

    def to(self, device: torch.device | str) -> Batch:
        """A copy on the device; the source may be reused only after a synchronisation."""
        tensors = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if value is not None
        }
        return replace(self, **tensors)


def pad(rows: Sequence[Sequence[float]], value: float) -> Tensor:
    """Rows of any lengths as one tensor [len(rows), longest], filled up on the right.

    It is long where rows and filling are integers.
    """
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def token_mask(rows: Sequence[Sequence[int]]) -> Tensor:
    """Bool [len(rows), longest]: True where `pad` put a token, False where it put filling."""
    lengths = torch.tensor([len(row) for row in rows])
    return torch.arange(int(lengths.max())) < lengths[:, None]


def encoder_decoder_batch(
    prompts: list[list[int]], answers: list[list[int]], pad_id: int, start_id: int
) -> Batch:
    """The prompt feeds the encoder; the decoder predicts the answer from its own shifted copy.

    Answers end in EOS already; the decoder's input starts with `start_id`.
    """
    return Batch(
        input_ids=pad(prompts, pad_id),
        attention_mask=token_mask(prompts),
        labels=pad(answers, IGNORED),
        decoder_input_ids=pad([[start_id, *answer[:-1]] for answer in answers], pad_id),
    )


def decoder_only_batch(prompts: list[list[int]], answers: list[list[int]], pad_id: int) -> Batch:
    """One sequence of prompt and answer; only the answer's tokens are targets.

    Answers end in EOS already. The input lacks the answer's last token, which nothing follows.

    Raises:
        UsageError: for an empty prompt, whose answer's first token nothing would predict.
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
    """Prompts alone, and what a head is to predict of each: `targets` float [B].

    Raises:
        UsageError: for an empty prompt, of which there is nothing to predict from.
    """
    _check_prompts(prompts)
    return Batch(
        input_ids=pad(prompts, pad_id),
        attention_mask=token_mask(prompts),
        labels=targets[:, None],
    )


def packed_batch(rows: Tensor, eos_id: int) -> Batch:
    """Rows of a corpus as inputs and labels: `rows` long [B, T + 1], documents end in `eos_id`.

    An end token has no label, so that no document is predicted from another. Attention does look
    back across documents in a row, as where text is packed for speed.
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
    """What a head predicts that looks `offset` tokens beyond the next: `labels` [B, T] moved left.

    Nothing follows the end of a row, and nothing of another document is predicted (`segments`
    [B, T] as in `Batch`).
    """
    moved = torch.full_like(labels, IGNORED)
    moved[:, : max(0, labels.shape[1] - offset)] = labels[:, offset:]
    if segments is not None:
        other = segments[:, offset:] != segments[:, : max(0, labels.shape[1] - offset)]
        moved[:, : other.shape[1]].masked_fill_(other, IGNORED)
    return moved


def _check_prompts(prompts: list[list[int]]) -> None:
    if not all(prompts):
        raise UsageError(
            "a decoder-only model cannot answer an empty prompt: "
            "drop such examples or start every prompt with a token"
        )
