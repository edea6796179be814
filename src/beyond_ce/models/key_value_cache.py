"""What a decoder-only transformer remembers while it decodes.

Shapes: B sequences, T new positions, K positions in the cache, H attention heads, E head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from beyond_ce.models.base import DecodingState


class KeyValueCache:
    """One layer's keys and values [B, K, H, E], allocated once for the longest row."""

    keys: Tensor
    values: Tensor

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity

    def write(self, keys: Tensor, values: Tensor, positions: Tensor) -> None:
        """Puts [B, T, H, E] at the positions [B, T] of their rows."""
        if not hasattr(self, "keys"):
            # Zeros, as a masked position still enters the weighted sum, with weight 0.
            shape = (keys.shape[0], self.capacity, *keys.shape[2:])
            self.keys = keys.new_zeros(shape)
            self.values = values.new_zeros(shape)
        rows = torch.arange(keys.shape[0], device=keys.device)[:, None]
        self.keys[rows, positions] = keys
        self.values[rows, positions] = values

    def select(self, rows: Tensor) -> None:
        if not hasattr(self, "keys"):  # of a block without attention
            return
        self.keys = self.keys.index_select(0, rows)
        self.values = self.values.index_select(0, rows)


class DecoderState(DecodingState):
    """What a `Decoder` remembers while it decodes.

    Rows stand at positions of their own: all start at 0 whatever the length of their prompts.

    Args:
        lengths: long [B], tokens that each row has read.
        past: a cache for each layer that runs, those of the head included.
    """

    def __init__(self, lengths: Tensor, past: list[KeyValueCache]) -> None:
        self.lengths = lengths
        self.past = past
        self.width = 0
        """Cache positions in use by the longest row."""

    def select(self, rows: Tensor) -> None:
        self.lengths = self.lengths[rows]
        for cache in self.past:
            cache.select(rows)


@dataclass
class Past:
    """One layer's cache as one forward uses it.

    Attributes:
        positions: long [B, T], where the new tokens stand.
        rotations: [B, T, 1, E / 2, 2], the rotary angles of these positions.
        visible: bool [B, 1, T, width], which of the first `width` positions each token sees.
    """

    cache: KeyValueCache
    positions: Tensor
    rotations: Tensor
    visible: Tensor

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the new keys and values [B, T, H, E]; returns all [B, width, H, E]."""
        self.cache.write(keys, values, self.positions)
        width = self.visible.shape[-1]
        return self.cache.keys[:, :width], self.cache.values[:, :width]
