"""Linear maps for a few rows at a time, as decoding has them.

The product of a few rows and a matrix takes as long as reading the matrix. On CPUs the kernels
behind `F.linear` take several times that for 2 to 50 rows in float32, and oneDNN's, on a matrix laid
out for it, do not; they are what `torch.compile` uses for frozen weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_ROWS = 128
"""Above it the arithmetic counts, and kernels are equally good at that."""

FULL_TILE = 4
"""Rows that oneDNN multiplies as fast as one, or faster."""


class PackedLinear:
    """The maps of several matrices [M_i, D] without bias on the same input, as one product.

    On a CPU in float32 it holds a copy of the matrices from the first call with few rows on, so it
    lives no longer than they stay as they are. Elsewhere it is `F.linear`.
    """

    def __init__(self, *weights: Tensor) -> None:
        self.weights = weights
        self.packed: Tensor | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        """[B, T, D] to [B, T, sum of M_i]."""
        rows = hidden.shape[0] * hidden.shape[1]
        if rows > MOST_ROWS or not _has_kernels(hidden, self.weights[0]):
            parts = [F.linear(hidden, weight) for weight in self.weights]
            return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        if self.packed is None:
            joined = torch.cat(self.weights) if len(self.weights) > 1 else self.weights[0]
            self.packed = torch.ops.mkldnn._reorder_linear_weight(joined.detach(), FULL_TILE)
        flat = hidden.reshape(rows, -1)
        if rows < FULL_TILE:
            flat = F.pad(flat, (0, 0, 0, FULL_TILE - rows))
        product = _multiply(flat, self.packed, None, "none", [], "")
        return product[:rows].unflatten(0, hidden.shape[:2])


def _find_kernels() -> Any:
    """oneDNN's product with a packed matrix; None where this build of torch has none."""
    operators = torch.ops.mkldnn
    if torch.backends.mkldnn.is_available() and hasattr(operators, "_reorder_linear_weight"):
        return getattr(getattr(operators, "_linear_pointwise", None), "default", None)
    return None


_multiply = _find_kernels()


def _has_kernels(hidden: Tensor, weight: Tensor) -> bool:
    return (
        _multiply is not None
        and hidden.device.type == "cpu"
        and hidden.dtype is torch.float32 is weight.dtype
        and not torch.is_autocast_enabled("cpu")
        and not torch.is_grad_enabled()
    )
