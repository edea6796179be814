"""Decoding one token per forward: the most probable one, or one drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from beyond_ce.generation.sampling import Sampler
from beyond_ce.models import LanguageModel
from beyond_ce.models.base import DecodingState

OnTokens = Callable[[int, list[int]], None]
"""Called with new tokens as they come: `on_tokens(i, tokens)`, with the prompt's index i."""

Stop = Callable[[int, list[int]], bool]
"""Whether a continuation ends after its last token: `stop(i, tokens)`, with the prompt's index i
and all its new tokens. It is called once for each new token but end tokens, in their order."""


class NotFinite(Exception):
    """The logits of a prompt hold a NaN, or their largest is infinite; `row` is its index."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row}")
        self.row = row


def decode_token_by_token(
    model: LanguageModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    end_ids: Collection[int],
    sampler: Sampler | None,
    on_tokens: OnTokens,
    stop: Stop | None = None,
) -> tuple[list[list[int]], int]:
    """Continues every prompt of one batch up to an end token or `max_new_tokens`.

    A prompt that is there several times is read once. Finished sequences leave the batch, which
    makes the rest faster.

    Args:
        end_ids: the tokens that end a continuation.
        sampler: for this batch; None for greedy decoding.
        on_tokens: called after each forward for each sequence that took part.
        stop: also ends a continuation; None for end tokens only.

    Returns:
        The new tokens of each prompt, the end token included when produced, and the forward passes
        summed over the sequences that took part in them. Reading a prompt counts for each of its
        sequences.

    Raises:
        NotFinite: the model's logits are not finite.
    """
    state, logits = _prefill(model, prompts, max_new_tokens)
    forwards = len(prompts)
    active = list(range(len(prompts)))
    new: list[list[int]] = [[] for _ in prompts]
    for t in range(max_new_tokens):
        largest, tokens = logits.max(dim=-1)
        if sampler is not None:
            tokens = sampler(logits, active, t)
        # One transfer to the host for both answers: -1 stands for logits that are not finite.
        next_tokens = tokens.masked_fill(~largest.isfinite(), -1).tolist()
        for row, token in zip(active, next_tokens, strict=True):
            if token < 0:
                raise NotFinite(row)
            new[row].append(token)
            on_tokens(row, [token])
        if t + 1 == max_new_tokens:
            break
        rows = [
            i
            for i, (row, token) in enumerate(zip(active, next_tokens, strict=True))
            if token not in end_ids and not (stop and stop(row, new[row]))
        ]
        if len(rows) < len(active):
            if not rows:
                break
            kept = torch.tensor(rows, device=tokens.device)
            state.select(kept)
            tokens, active = tokens[kept], [active[i] for i in rows]
        logits = model.step(state, tokens)
        forwards += len(active)
    return new, forwards


def _prefill(
    model: LanguageModel, prompts: list[list[int]], max_new_tokens: int
) -> tuple[DecodingState, Tensor]:
    """As `model.prefill`, which reads each prompt once; its copies get copies of its state."""
    places: dict[tuple[int, ...], int] = {}
    rows = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
    state, logits = model.prefill([list(prompt) for prompt in places], max_new_tokens)
    if len(places) < len(prompts):
        copies = torch.tensor(rows, device=logits.device)
        state.select(copies)
        logits = logits[copies]
    return state, logits
