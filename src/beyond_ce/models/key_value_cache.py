"""What a layer remembers while it decodes, and where in it the tokens of one forward stand.

Shapes: B sequences, T new tokens, K positions in the cache, H attention heads, E head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beyond_ce.models.layers import Rotary


class KeyValueCache:
    """One layer's keys and values [B, 2, H, K, E], allocated once for the longest row."""

    both: Tensor

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity

    def write(self, both: Tensor, span: Span) -> None:
        """Puts keys and values [B, T, 2, H, E] at the span's positions."""
        if not hasattr(self, "both"):
            # Zeros, as a masked position still enters the weighted sum, with weight 0.
            batch, _, two, heads, size = both.shape
            self.both = both.new_zeros(batch, two, heads, self.capacity, size)
        if span.level:
            self.both[:, :, :, span.starts[0] : span.width] = both.permute(0, 2, 3, 1, 4)
        else:
            self.both[span.rows, :, :, span.positions] = both

    def read(self, width: int) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, width, E] of the first positions."""
        keys, values = self.both[:, :, :, :width].unbind(1)
        return keys, values

    def select(self, rows: Tensor) -> None:
        if hasattr(self, "both"):
            self.both = self.both.index_select(0, rows)


class Span:
    """T neighbouring positions of each row, as all layers of one forward see them.

    Args:
        starts: of the B rows.
        length: T.
        rotary: the model's.

    Attributes:
        level: whether all rows stand at the same positions.
        width: cache positions in use up to here.
        rows, positions: long [B, 1] and [B, T], where the tokens stand in a cache.
        rotations: [B, T, 1, 1, E / 2, 2], the rotary angles of the positions.
        turns: the same as complex numbers [B, T, 1, 1, E / 2].
    """

    def __init__(self, starts: list[int], length: int, rotary: Rotary) -> None:
        self.starts = starts
        self.length = length
        self.rotary = rotary
        self.level = min(starts) == max(starts)
        self.width = max(starts) + length
        device = rotary.table.device
        self.rows = torch.arange(len(starts), device=device)[:, None]
        steps = torch.arange(length, device=device)
        self.positions = torch.tensor(starts, device=device)[:, None] + steps
        # Beyond the context stand only tokens that will be rejected (see `Decoder.prefill`).
        self.rotations = rotary.at(self.positions.clamp(max=rotary.length - 1))[:, :, None]
        self.turns = torch.view_as_complex(self.rotations)
        self._mask: Tensor | None = None

    def at(self, places: list[int]) -> Span:
        """One token of each row, by its place among the T."""
        starts = [start + place for start, place in zip(self.starts, places, strict=True)]
        return Span(starts, 1, self.rotary)

    @property
    def causal(self) -> bool:
        """Whether each token sees those before it in the span and nothing else."""
        return self.width == self.length

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """What is added to scores [B, H, T, width]: nothing where a token sees the position, else
        minus infinity. None if all is seen, or `causal` says it all."""
        if self.causal or (self.level and self.length == 1):
            return None
        if self._mask is None or self._mask.dtype != dtype:
            places = torch.arange(self.width, device=self.positions.device)
            hidden = places > self.positions[:, None, :, None]
            self._mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            self._mask.masked_fill_(hidden, -torch.inf)
        return self._mask
