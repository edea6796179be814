"""Drafts of a head whose block is applied again and again, with a key-value cache per application.

The i-th application at position s reads the token at s + i. For the last i - 1 positions of a text
that is a draft, which may turn out wrong; so the trunk's states are kept, and each look ahead
computes those positions again with the tokens that now stand there. All that is attended to is then
what a forward over the whole text gives.

Shapes: B sequences, T new tokens, L positions to compute, D hidden size, V vocabulary, k heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from beyond_ce.models.decoding import DecodingWeights, TokenSelection
from beyond_ce.models.key_value_cache import CacheSlots, KeyValueCache

if TYPE_CHECKING:
    from beyond_ce.models.decoder import Decoder


class RecurrentDrafts:
    """What drafting needs of the B sequences of a `DecoderState`, whose arguments it takes.

    Args:
        weights: the model's.
        heads: k, at least 2.
    """

    def __init__(
        self, model: Decoder, weights: DecodingWeights, rows: int, capacity: int, heads: int
    ) -> None:
        self._model, self._weights, self._heads = model, weights, heads
        self._again = heads - 2  # positions before the new ones to compute again
        capacity += self._again
        self._caches = [KeyValueCache(capacity) for _ in range(1, heads)]
        embedding = model.embedding.weight
        # Zeros: what no row has written yet is computed along with others and then left out.
        self._states = embedding.new_zeros(rows, capacity, embedding.shape[1])
        self._tokens = torch.zeros(rows, capacity + heads, dtype=torch.long).to(embedding.device)

    def add(self, tokens: Tensor, states: Tensor, slots: CacheSlots) -> None:
        """Keeps tokens (long [B, T]) and the trunk's states [B, T, D] after each of them."""
        self._tokens[slots.rows, slots.positions] = tokens
        self._states[slots.rows, slots.positions] = states

    def look_ahead(self, slots: CacheSlots, indices: list[int], following: list[int]) -> Tensor:
        """Draft logits [B, k - 1, V], each after the most probable token before (see
        `DecoderState.look_ahead`).

        Args:
            slots: of the T tokens added last.
        """
        starts = [max(0, start - self._again) for start in slots.starts]
        places = [
            start + index - first
            for start, index, first in zip(slots.starts, indices, starts, strict=True)
        ]
        # Tokens after the last accepted one of all rows were rejected, and need no drafts.
        window = CacheSlots(starts, max(places) + 1, slots.rotary)
        selection = TokenSelection(window, places)
        rows = slots.rows[:, 0]
        last = selection.slots.positions[:, 0]
        self._tokens[rows, last + 1] = torch.tensor(following, device=rows.device)
        state = self._states[window.rows, window.positions]
        block = self._weights.block(1, low_precision=True)
        drafts: list[Tensor] = []
        for offset, cache in enumerate(self._caches, 1):
            embedded = self._model.embedding(self._tokens[window.rows, window.positions + offset])
            joined = torch.cat([state, embedded], dim=-1)
            if offset + 1 < self._heads:
                state = block(joined, window, cache)
                selected = selection(state)
            else:
                selected = block(joined, window, cache, selection)
            features = self._model.head.output(selected)
            drafts.append(self._weights.draft_logits(features, offset))
            self._tokens[rows, last + 1 + offset] = self._weights.drafted(drafts[-1])[:, 0]
        return torch.cat(drafts, dim=1)

    def select(self, rows: Tensor) -> None:
        self._states, self._tokens = self._states[rows], self._tokens[rows]
        for cache in self._caches:
            cache.select(rows)
