"""Greedy decoding with several heads in fewer forwards: blockwise parallel decoding.

Source: Stern, Shazeer, Uszkoreit (2018), "Blockwise Parallel Decoding for Deep Autoregressive
Models"; MTP paper, section 3.2 and appendix A. Heads 2 to k draft the tokens after the next one,
and the forward that reads the drafts verifies them: head 1 has to find each one most probable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beyond_ce.errors import UsageError
from beyond_ce.generation.token_by_token import NotFinite, OnTokens
from beyond_ce.models import Decoder, LanguageModel


def decode_self_speculatively(
    model: LanguageModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    eos_id: int,
    heads: int,
    on_tokens: OnTokens = lambda row, tokens: None,
) -> tuple[list[list[int]], int]:
    """Continues every prompt of one batch up to EOS or `max_new_tokens`: with what greedy decoding
    finds, up to rounding, in as few as 1 / `heads` of the forwards.

    Each sequence goes on from the last draft that holds for it, so that none waits for another.
    Finished sequences leave the batch.

    Args:
        eos_id: the token that ends a continuation, -1 for none.
        heads: k, how many of the model's heads to use; 1 is plain greedy decoding.
        on_tokens: is called after each forward for each sequence that took part.

    Returns:
        As `decode_token_by_token`.

    Raises:
        UsageError: the model cannot go back in its cache.
        NotFinite: the model is broken.
    """
    if not isinstance(model, Decoder):
        raise UsageError(
            f"heads={heads}: {type(model).__name__} decodes with one head only, set heads=1"
        )
    state, logits = model.prefill(prompts, max_new_tokens, heads)
    forwards = len(prompts)
    going = list(range(len(prompts)))
    new: list[list[int]] = [[] for _ in prompts]
    # Of the tokens that the last forward read, the place of the last one that holds; and what
    # follows the tokens up to there. To begin with, nothing has been drafted.
    places = [len(prompt) - 1 for prompt in prompts]
    blocks = _most_probable(logits[:, None])
    while True:
        for row, block in zip(going, blocks, strict=True):
            if -1 in block:
                raise NotFinite(row)
            fitting = block[: max_new_tokens - len(new[row])]
            if eos_id in fitting:
                fitting = fitting[: fitting.index(eos_id) + 1]
            new[row] += fitting
            on_tokens(row, fitting)
        missing = [0 if new[row][-1] == eos_id else max_new_tokens - len(new[row]) for row in going]
        if not any(missing):
            return new, forwards
        # No more drafts than the furthest row back can use; the others may have some too many.
        drafts: list[list[int]] = [[] for _ in going]
        if (count := min(heads, max(missing)) - 1) > 0:
            drafts = state.look_ahead(places)[:, :count].argmax(dim=-1).tolist()
        kept = [i for i, tokens in enumerate(missing) if tokens]
        if len(kept) < len(going):
            state.select(torch.tensor(kept, device=logits.device))
            going, drafts = [going[i] for i in kept], [drafts[i] for i in kept]
        read = [[new[row][-1], *draft] for row, draft in zip(going, drafts, strict=True)]
        found = _most_probable(state.logits(state.read(torch.tensor(read, device=logits.device))))
        forwards += len(going)
        places = [_agreement(draft, tokens) for draft, tokens in zip(drafts, found, strict=True)]
        blocks = [tokens[: place + 1] for tokens, place in zip(found, places, strict=True)]
        state.lengths = [
            length + place + 1 for length, place in zip(state.lengths, places, strict=True)
        ]


def _most_probable(logits: Tensor) -> list[list[int]]:
    """The tokens [B][T] with the largest logits of [B, T, V]; -1 where these are not finite."""
    largest, tokens = logits.max(dim=-1)
    found: list[list[int]] = tokens.masked_fill(~largest.isfinite(), -1).tolist()
    return found


def _agreement(drafts: list[int], found: list[int]) -> int:
    """How many drafts hold: up to the first that is not what was found in its place."""
    for place, (draft, token) in enumerate(zip(drafts, found, strict=False)):
        if draft != token:
            return place
    return len(drafts)
