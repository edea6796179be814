"""Greedy decoding with several heads in fewer forwards: blockwise parallel decoding.

Source: Stern, Shazeer, Uszkoreit (2018), "Blockwise Parallel Decoding for Deep Autoregressive
Models"; MTP paper, section 3.2 and appendix A. Heads 2 to k draft the tokens after the next one,
and the forward that reads the drafts verifies them: a draft is accepted if all before it are and
head 1 finds it most probable.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from beyond_ce.errors import UsageError
from beyond_ce.generation.token_by_token import NotFinite, OnTokens, Stop
from beyond_ce.models import Decoder, LanguageModel


def decode_self_speculatively(
    model: LanguageModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    end_ids: Collection[int],
    heads: int,
    on_tokens: OnTokens = lambda row, tokens: None,
    stop: Stop | None = None,
) -> tuple[list[list[int]], int]:
    """Continues every prompt of one batch up to an end token or `max_new_tokens`. The tokens are
    those of greedy decoding, up to rounding, in as few as 1 / `heads` of the forwards.

    Each sequence continues from its own last accepted draft, so none waits for another. Finished
    sequences leave the batch.

    Args:
        end_ids: the tokens that end a continuation.
        heads: k, how many of the model's heads to use; 1 is plain greedy decoding.
        on_tokens: called after each forward for each sequence that took part.
        stop: also ends a continuation; None for end tokens only.

    Returns:
        As `decode_token_by_token`.

    Raises:
        UsageError: the model cannot rewind its cache.
        NotFinite: the model's logits are not finite.
    """
    if not isinstance(model, Decoder):
        raise UsageError(
            f"heads={heads}: {type(model).__name__} decodes with one head only, set heads=1"
        )
    state, logits = model.prefill(prompts, max_new_tokens, heads)
    forwards = len(prompts)
    active = list(range(len(prompts)))
    new: list[list[int]] = [[] for _ in prompts]
    missing = [max_new_tokens] * len(prompts)  # how many tokens may still follow; 0 for finished
    # places: index of the last accepted token among those that the last forward read.
    # blocks: the new tokens, head 1's predictions up to there; after the prompt just one.
    places = [len(prompt) - 1 for prompt in prompts]
    blocks = _most_probable(logits[:, None])
    while True:
        for row, block in zip(active, blocks, strict=True):
            if -1 in block:
                raise NotFinite(row)
            fitting: list[int] = []
            while missing[row] and len(fitting) < len(block):
                token = block[len(fitting)]
                fitting.append(token)
                new[row].append(token)
                ended = token in end_ids or (stop is not None and stop(row, new[row]))
                missing[row] = 0 if ended else max_new_tokens - len(new[row])
            on_tokens(row, fitting)
        if not any(missing):
            return new, forwards
        # As many drafts as the row with the most missing tokens can use, so too many for some rows.
        drafts: list[list[int]] = [[] for _ in active]
        if (count := min(heads, max(missing)) - 1) > 0:
            following = [new[row][-1] for row in active]
            drafts = state.drafts(places, following)[:, :count].tolist()
        kept = [i for i, row in enumerate(active) if missing[row]]
        if len(kept) < len(active):
            state.select(torch.tensor(kept, device=logits.device))
            active, drafts = [active[i] for i in kept], [drafts[i] for i in kept]
        inputs = [[new[row][-1], *draft] for row, draft in zip(active, drafts, strict=True)]
        hidden = state.read(torch.tensor(inputs, device=logits.device))
        predicted = _most_probable(state.logits(hidden))
        forwards += len(active)
        places = [_count_accepted(*pair) for pair in zip(drafts, predicted, strict=True)]
        blocks = [tokens[: place + 1] for tokens, place in zip(predicted, places, strict=True)]
        state.lengths = [
            length + place + 1 for length, place in zip(state.lengths, places, strict=True)
        ]


def _most_probable(logits: Tensor) -> list[list[int]]:
    """The tokens [B][T] with the largest logits of [B, T, V]; -1 where these are not finite."""
    largest, tokens = logits.max(dim=-1)
    ids: list[list[int]] = tokens.masked_fill(~largest.isfinite(), -1).tolist()
    return ids


def _count_accepted(drafts: list[int], predicted: list[int]) -> int:
    """The number of drafts before the first that differs from head 1's prediction."""
    for place, (draft, token) in enumerate(zip(drafts, predicted, strict=False)):
        if draft != token:
            return place
    return len(drafts)
