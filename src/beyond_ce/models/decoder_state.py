"""Decoding with a `Decoder`, several heads and a cache.

Shapes: B sequences, T new tokens, D hidden size, V vocabulary, k heads to decode with.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from beyond_ce.models.base import DecodingState
from beyond_ce.models.decoding import Choice, decoding_weights
from beyond_ce.models.key_value_cache import KeyValueCache, Span

if TYPE_CHECKING:
    from beyond_ce.models.decoder import Decoder


class DecoderState(DecodingState):
    """What a `Decoder` remembers of B sequences while it decodes.

    Rows stand at positions of their own: all start at 0 whatever the length of their prompts, and
    those that read several tokens may keep fewer of them. What is beyond a row's length in the
    cache is never seen, and overwritten later.

    Args:
        model: what decodes.
        rows: B.
        capacity: tokens that a row may read, those included that it does not keep.
        heads: k, how many of the model's heads decode.

    Attributes:
        lengths: tokens of each row that are kept. Who reads tokens sets it.
    """

    def __init__(self, model: Decoder, rows: int, capacity: int, heads: int) -> None:
        self.lengths = [0] * rows
        self._model = model
        self._head = head = model.head
        self._heads = heads
        self._weights = decoding_weights(model)
        # Offsets whose blocks the next token needs, and those that drafts need besides, in order.
        self._path = head.path(0)
        paths = chain.from_iterable(head.path(offset) for offset in range(heads))
        self._ahead = [offset for offset in dict.fromkeys(paths) if offset not in self._path]
        self._sources = {head.source(offset) for offset in self._ahead}
        self._trunk = [KeyValueCache(capacity) for _ in model.layers]
        self._blocks = {offset: KeyValueCache(capacity) for offset in (*self._path, *self._ahead)}

    @torch.no_grad()
    def read(self, tokens: Tensor) -> Tensor:
        """Features [B, T, D] of the next token's head after each of `tokens` (long [B, T]), which
        follow the `lengths` of their rows."""
        self._span = Span(self.lengths, tokens.shape[1], self._model.rotary)
        hidden = self._model.embedding(tokens)
        for layer, cache in zip(self._weights.layers, self._trunk, strict=True):
            hidden = layer(hidden, self._span, cache)
        hidden = self._model.norm(hidden)
        # What the other heads start from, by offset; None stands for the trunk.
        self._states: dict[int | None, Tensor] = {None: hidden}
        for offset in self._path:
            block = self._weights.block(offset)
            hidden = self._states[offset] = block(hidden, self._span, self._blocks[offset])
        return self._head.output(hidden)

    @torch.no_grad()
    def look_ahead(self, places: list[int]) -> Tensor:
        """Logits [B, k - 1, V] of heads 2 to k at one of the tokens just read in each row, by its
        place among the T; roughly, for drafts.

        Their blocks remember all T tokens, and go on with that one only, unless another head reads
        its neighbour's state.
        """
        choice = Choice(self._span, places)
        chosen = {offset: choice(state) for offset, state in self._states.items() if offset}
        for offset in self._ahead:
            block = self._weights.block(offset, rough=True)
            state, cache = self._states[self._head.source(offset)], self._blocks[offset]
            if offset in self._sources:
                self._states[offset] = block(state, self._span, cache)
                chosen[offset] = choice(self._states[offset])
            else:
                chosen[offset] = block(state, self._span, cache, choice)
        later = torch.cat([chosen[offset] for offset in range(1, self._heads)], dim=1)
        return self._weights.draft_logits(self._head.output(later))

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Logits [B, T, V] of the next token from its head's features [B, T, D]."""
        return self._weights.logits(features)

    def select(self, rows: Tensor) -> None:
        self.lengths = [self.lengths[row] for row in rows.tolist()]
        for cache in (*self._trunk, *self._blocks.values()):
            cache.select(rows)
