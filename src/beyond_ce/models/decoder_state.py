"""The decoding state of a `Decoder`: a key-value cache for the trunk and for several heads.

Shapes: B sequences, T new tokens, D hidden size, V vocabulary, k heads to decode with.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from beyond_ce.models.base import DecodingState
from beyond_ce.models.decoding import TokenSelection, decoding_weights
from beyond_ce.models.heads import RecurrentMultiTokenHead
from beyond_ce.models.key_value_cache import CacheSlots, KeyValueCache
from beyond_ce.models.recurrent_drafts import RecurrentDrafts

if TYPE_CHECKING:
    from beyond_ce.models.decoder import Decoder


class DecoderState(DecodingState):
    """The decoding state of B sequences.

    Each row has its own position: all rows start at 0, whatever the length of their prompts, and a
    row that reads several tokens may keep only some of them. Cache entries beyond a row's length
    are never attended to, and overwritten later.

    Args:
        model: the model that decodes.
        rows: B.
        capacity: maximum number of tokens that a row reads, rejected ones included.
        heads: k, the number of heads to decode with.
        offset: of the head whose features `read` returns; other than 0, for the next token, only
            without drafts, heads = 1.

    Attributes:
        lengths: number of tokens that each row keeps. `read` does not change it; the caller must.
    """

    def __init__(
        self, model: Decoder, rows: int, capacity: int, heads: int, offset: int = 0
    ) -> None:
        self.lengths = [0] * rows
        self._model = model
        self._head = head = model.head
        self._heads = heads
        self._weights = decoding_weights(model)
        # Offsets whose blocks the next token needs, then those that only drafts need, in order.
        self._path = head.path(offset)
        paths = chain.from_iterable(head.path(draft) for draft in range(1, heads))
        self._draft_path = [offset for offset in dict.fromkeys(paths) if offset not in self._path]
        self._sources = {head.source(offset) for offset in self._draft_path}
        self._all_from_trunk = self._sources == {None} and len(self._draft_path) == heads - 1
        self._recurrent: RecurrentDrafts | None = None
        if isinstance(head, RecurrentMultiTokenHead) and heads > 1:
            self._recurrent = RecurrentDrafts(model, self._weights, rows, capacity, heads)
            self._draft_path = []
        self._trunk = [KeyValueCache(capacity) for _ in model.layers]
        self._blocks = {
            offset: KeyValueCache(capacity) for offset in (*self._path, *self._draft_path)
        }

    @torch.no_grad()
    def read(self, tokens: Tensor) -> Tensor:
        """Reads `tokens` (long [B, T]), which follow the `lengths` of their rows.

        Returns the features [B, T, D] of the head at `offset` after each of them.
        """
        self._slots = CacheSlots(self.lengths, tokens.shape[1], self._model.rotary)
        hidden = self._model.embedding(tokens)
        hidden = self._weights.layers(hidden, self._slots, self._trunk)
        hidden = self._model.norm(hidden)
        # The states that other heads start from, by offset; None stands for the trunk.
        self._states: dict[int | None, Tensor] = {None: hidden}
        if self._recurrent is not None:
            self._recurrent.add(tokens, hidden, self._slots)
        for offset in self._path:
            block = self._weights.block(offset)
            hidden = self._states[offset] = block(hidden, self._slots, self._blocks[offset])
        return self._head.output(hidden)

    def drafts(self, indices: list[int], following: list[int]) -> Tensor:
        """The tokens, long [B, k - 1], that heads 2 to k find most probable (see `look_ahead`)."""
        return self._weights.drafted(self.look_ahead(indices, following))

    @torch.no_grad()
    def look_ahead(self, indices: list[int], following: list[int]) -> Tensor:
        """Draft logits [B, k - 1, V] of heads 2 to k, in low precision, after one token per row;
        of the head's draft vocabulary, if it has one.

        Each block caches the keys and values of all T tokens, but computes its output only for the
        selected token, unless another head starts from its states.

        Args:
            indices: which of the T tokens just read, for each row.
            following: the token after that one, for each row; only some heads read it.
        """
        if self._recurrent is not None:
            return self._recurrent.look_ahead(self._slots, indices, following)
        selection = TokenSelection(self._slots, indices)
        if self._all_from_trunk and (drafts := self._weights.linear_drafts(self._draft_path)):
            later = drafts(selection(self._states[None]))
            return self._weights.draft_logits(self._head.output(later))
        selected = {offset: selection(state) for offset, state in self._states.items() if offset}
        for offset in self._draft_path:
            block = self._weights.block(offset, low_precision=True)
            state, cache = self._states[self._head.source(offset)], self._blocks[offset]
            if offset in self._sources:
                self._states[offset] = block(state, self._slots, cache)
                selected[offset] = selection(self._states[offset])
            else:
                selected[offset] = block(state, self._slots, cache, selection)
        later = torch.cat([selected[offset] for offset in range(1, self._heads)], dim=1)
        return self._weights.draft_logits(self._head.output(later))

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Logits [B, T, V] of the next token from its head's features [B, T, D]."""
        return self._weights.logits(features)

    def select(self, rows: Tensor) -> None:
        self.lengths = [self.lengths[row] for row in rows.tolist()]
        for cache in (*self._trunk, *self._blocks.values()):
            cache.select(rows)
        if self._recurrent is not None:
            self._recurrent.select(rows)

    def reserve(self, capacity: int) -> None:
        """Makes room for rows of so many tokens."""
        for cache in (*self._trunk, *self._blocks.values()):
            cache.reserve(capacity)

    def copied(self, rows: list[int]) -> DecoderState:
        """A state of its own with the given rows (repeats allowed); this one stays as it is."""
        state = copy.copy(self)
        state._trunk = [copy.copy(cache) for cache in self._trunk]
        state._blocks = {offset: copy.copy(cache) for offset, cache in self._blocks.items()}
        state.select(torch.tensor(rows, device=self._model.embedding.weight.device))
        return state
