"""The key-value cache of a layer, and the cache slots of the tokens of one forward.

Shapes: B sequences, T new tokens, K positions in the cache, H attention heads, G heads of keys and
values, E head size.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from beyond_ce.models.layers import Rotary


class KeyValueCache:
    """One layer's keys and values [B, 2, G, K, E], allocated once for the longest row."""

    keys_values: Tensor

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity

    def write(self, keys_values: Tensor, slots: CacheSlots) -> None:
        """Writes keys and values [B, T, 2, G, E] into the slots."""
        self.storage(keys_values, *keys_values.shape[3:])
        if slots.aligned:
            positions = slice(slots.starts[0], slots.width)
            self.keys_values[:, :, :, positions] = keys_values.permute(0, 2, 3, 1, 4)
        else:
            self.keys_values[slots.rows, :, :, slots.positions] = keys_values

    def storage(self, like: Tensor, groups: int, size: int) -> Tensor:
        """All keys and values; made at the first call, for [B, ..] of the type of `like`."""
        if not hasattr(self, "keys_values"):
            # Zeros, because masked positions still enter the weighted sum, with weight 0.
            self.keys_values = like.new_zeros(like.shape[0], 2, groups, self.capacity, size)
        return self.keys_values

    def read(self, width: int) -> tuple[Tensor, Tensor]:
        """Keys and values [B, G, width, E] of the first `width` positions."""
        keys, values = self.keys_values[:, :, :, :width].unbind(1)
        return keys, values

    def select(self, rows: Tensor) -> None:
        if hasattr(self, "keys_values"):
            self.keys_values = self.keys_values.index_select(0, rows)

    def reserve(self, capacity: int) -> None:
        """Makes room for rows of so many tokens; what is in it stays."""
        if hasattr(self, "keys_values") and capacity > self.capacity:
            batch, two, heads, _, size = self.keys_values.shape
            larger = self.keys_values.new_zeros(batch, two, heads, capacity, size)
            larger[:, :, :, : self.capacity] = self.keys_values
            self.keys_values = larger
        self.capacity = max(self.capacity, capacity)


class CacheSlots:
    """The cache positions of T consecutive new tokens per row, shared by all layers of a forward.

    Args:
        starts: the first position of each of the B rows.
        length: T.
        rotary: the model's.

    Attributes:
        aligned: whether all rows have the same positions.
        width: number of cache positions in use after the forward, over all rows.
        positions: long [B, T], the tokens' second index into the cache; `rows` is the first.
        rotations: [B, T, 1, 1, E / 2, 2], the rotary angles of the positions.
    """

    def __init__(self, starts: list[int], length: int, rotary: Rotary) -> None:
        self.starts = starts
        self.length = length
        self.rotary = rotary
        self.aligned = min(starts) == max(starts)
        self.width = max(starts) + length
        device = rotary.table.device
        self.positions = torch.tensor(starts, device=device)[:, None]
        if length > 1:
            self.positions = self.positions + torch.arange(length, device=device)
        # Tokens beyond the context will be rejected (see `Decoder.prefill`): any rotation will do.
        known = self.positions
        if self.width > rotary.length:
            known = known.clamp(max=rotary.length - 1)
        self.rotations = rotary.at(known)[:, :, None]
        self._mask: Tensor | None = None

    @cached_property
    def rows(self) -> Tensor:
        """Long [B, 1], the tokens' first index into the cache."""
        return torch.arange(len(self.starts), device=self.positions.device)[:, None]

    @cached_property
    def complex_rotations(self) -> Tensor:
        """`rotations` as complex numbers [B, T, 1, 1, E / 2]."""
        return torch.view_as_complex(self.rotations)

    def select(self, indices: list[int]) -> CacheSlots:
        """The slots of one token per row, given by its index among the T."""
        starts = [start + index for start, index in zip(self.starts, indices, strict=True)]
        return CacheSlots(starts, 1, self.rotary)

    @property
    def causal(self) -> bool:
        """Whether the cache was empty, so plain causal attention among the T tokens is enough."""
        return self.width == self.length

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """Added to the scores [B, H, T, width]: 0 for visible positions, minus infinity for others.
        None if all positions are visible or `causal` is true."""
        if self.causal or (self.aligned and self.length == 1):
            return None
        if self._mask is None or self._mask.dtype != dtype:
            cache_positions = torch.arange(self.width, device=self.positions.device)
            hidden = cache_positions > self.positions[:, None, :, None]
            self._mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            self._mask.masked_fill_(hidden, -torch.inf)
        return self._mask
