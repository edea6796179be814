"""Token lists to the padded tensors a model trains on.

Shapes: B examples, S input tokens, T target tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from beyond_ce.errors import UsageError

IGNORED = -100
"""Label of a position without a target."""


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
    """[B, T] long, `IGNORED` where nothing is predicted; T = S for decoder-only models."""
    decoder_input_ids: Tensor | None = None
    """[B, T] long for encoder-decoder models, None for decoder-only models."""

    def to(self, device: torch.device | str) -> Batch:
        """A copy on the device; the source may be reused only after a synchronisation."""
        decoder_input_ids = self.decoder_input_ids
        if decoder_input_ids is not None:
            decoder_input_ids = decoder_input_ids.to(device, non_blocking=True)
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            attention_mask=self.attention_mask.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            decoder_input_ids=decoder_input_ids,
        )


def pad(rows: list[list[int]], value: int) -> Tensor:
    """Rows of any lengths as one long tensor [len(rows), longest], filled up on the right."""
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def token_mask(rows: list[list[int]]) -> Tensor:
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
    if not all(prompts):
        raise UsageError(
            "a decoder-only model cannot answer an empty prompt: "
            "drop such examples or start every prompt with a token"
        )
    pairs = list(zip(prompts, answers, strict=True))
    rows = [prompt + answer[:-1] for prompt, answer in pairs]
    labels = [[IGNORED] * (len(prompt) - 1) + answer for prompt, answer in pairs]
    return Batch(
        input_ids=pad(rows, pad_id),
        attention_mask=token_mask(rows),
        labels=pad(labels, IGNORED),
    )
