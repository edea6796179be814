"""Decoding one token per forward: the most probable one, or one drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch

from beyond_ce.generation.sampling import Sampler
from beyond_ce.models import LanguageModel

OnTokens = Callable[[int, list[int]], None]
"""Called with new tokens as they come: `on_tokens(i, tokens)`, with the prompt's index i."""


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
) -> tuple[list[list[int]], int]:
    """Continues every prompt of one batch up to an end token or `max_new_tokens`.

    Finished sequences leave the batch, which makes the rest faster.

    Args:
        end_ids: the tokens that end a continuation.
        sampler: for this batch; None for greedy decoding.
        on_tokens: called after each forward for each sequence that took part.

    Returns:
        The new tokens of each prompt, the end token included when produced, and the forward passes
        summed over the sequences that took part in them.

    Raises:
        NotFinite: the model's logits are not finite.
    """
    state, logits = model.prefill(prompts, max_new_tokens)
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
        rows = [i for i, token in enumerate(next_tokens) if token not in end_ids]
        if len(rows) < len(active):
            if not rows:
                break
            kept = torch.tensor(rows, device=tokens.device)
            state.select(kept)
            tokens, active = tokens[kept], [active[i] for i in rows]
        logits = model.step(state, tokens)
        forwards += len(active)
    return new, forwards
