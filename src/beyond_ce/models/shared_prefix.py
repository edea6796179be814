"""Reads tokens that several sequences begin with once, and continues from there in several ways.

Shapes: B sequences, T new tokens, K positions in the cache, D hidden size.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from beyond_ce.batches.batch import pad, token_mask
from beyond_ce.models.decoder_state import DecoderState

if TYPE_CHECKING:
    from transformers.cache_utils import DynamicCache

    from beyond_ce.models.causal_lm import CausalLM
    from beyond_ce.models.decoder import Decoder


class SharedPrefix(ABC):
    """What a decoder-only model has read of B sequences; it begins with one that is empty."""

    @abstractmethod
    def read(self, rows: list[list[int]]) -> Tensor:
        """Appends tokens to each sequence, of different numbers or none.

        Returns the head's features [B, T, D] after each of them, padded on the right.
        """

    @abstractmethod
    def repeat(self, rows: list[int]) -> SharedPrefix:
        """New sequences that begin as these (indices below B, repeats allowed); this stays as it
        is."""


class DecoderPrefix(SharedPrefix):
    """The prefix of a `Decoder`.

    Args:
        offset: of the head whose features `read` returns, 0 for that of the next token.
    """

    def __init__(self, model: Decoder, offset: int) -> None:
        self._model = model
        self._state = DecoderState(model, rows=1, capacity=0, heads=1, offset=offset)

    def read(self, rows: list[list[int]]) -> Tensor:
        state = self._state
        tokens = pad(rows, self._model.pad_id).to(self._model.embedding.weight.device)
        state.reserve(max(state.lengths) + tokens.shape[1])
        features = state.read(tokens)
        # What padding wrote into the cache is overwritten before it is attended to.
        pairs = zip(state.lengths, rows, strict=True)
        state.lengths = [length + len(row) for length, row in pairs]
        return features

    def repeat(self, rows: list[int]) -> DecoderPrefix:
        repeated = copy.copy(self)
        repeated._state = self._state.copied(rows)
        return repeated


class CausalLMPrefix(SharedPrefix):
    """The prefix of a `CausalLM`, whose library appends to all rows at the same position: a row
    that got fewer tokens has a gap there, which the mask hides.

    Args:
        cache: without a sliding window, in which the gaps would count.
        offset: of the head whose features `read` returns, 0 for that of the next token.
    """

    def __init__(self, model: CausalLM, cache: DynamicCache, offset: int) -> None:
        self._model = model
        self._cache = cache
        self._offset = offset
        device = model.embedding.weight.device
        self._mask = torch.zeros(1, 0, dtype=torch.bool, device=device)

    def read(self, rows: list[list[int]]) -> Tensor:
        model = self._model
        tokens = pad(rows, model.pad_id).to(self._mask.device)
        first = not self._mask.shape[1]
        self._mask = torch.cat([self._mask, token_mask(rows).to(self._mask.device)], dim=1)
        # At first, padding comes after all tokens, where causal attention never sees it: without a
        # mask, the fastest kernels can be used.
        hidden = model.extend(None if first else self._mask, self._cache, tokens)
        return model.head.features(hidden, self._offset)

    def repeat(self, rows: list[int]) -> CausalLMPrefix:
        index = torch.tensor(rows, device=self._mask.device)
        repeated = copy.copy(self)
        repeated._mask = self._mask[index]
        repeated._cache = copy.copy(self._cache)
        # The layers are copied, their tensors are not: reordering puts new ones in their place.
        repeated._cache.layers = [copy.copy(layer) for layer in self._cache.layers]
        if self._mask.shape[1]:  # else nothing was read, and there is nothing to reorder
            repeated._cache.reorder_cache(index)  # type: ignore[arg-type]
        return repeated
