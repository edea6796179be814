"""Fast linear maps of a few rows at a time, as in decoding.

Multiplying a few rows by a matrix should take no longer than reading the matrix. On CPUs the
kernels behind `F.linear` take up to several times as long in float32, and 1.5 times as long in
bfloat16. oneDNN's kernels do not, if the matrix is in their own layout; torch includes them for
compiled models.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FULL_TILE = 4
"""oneDNN multiplies this many rows faster than one or two, so we repeat one or two to get it."""

SMALL = 2**17
"""Matrices of up to this many elements are not packed: calling oneDNN costs about 15 us."""


class PackedLinear:
    """Several linear maps [M_i, D] without bias on the same input, fused into one product.

    On a CPU it holds a copy of the matrices: discard it when they change. On other devices, and
    under autocast, it calls `F.linear` for each matrix.

    Args:
        weights: the matrices, all of one dtype.
        low_precision: whether to store large matrices in bfloat16, if the CPU supports it: half the
            time, with a relative error of about 1/200.
    """

    def __init__(self, *weights: Tensor, low_precision: bool = False) -> None:
        self.weights = weights
        self.packed: Tensor | None = None
        if weights[0].device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return
        joined = torch.cat(weights) if len(weights) > 1 else weights[0]
        self.weights = (joined.detach(),)
        if joined.numel() <= SMALL:
            return
        if low_precision and joined.dtype is torch.float32 and _has_kernel(torch.bfloat16):
            joined = joined.bfloat16()
        if _has_kernel(joined.dtype):
            self.packed = torch.ops.mkldnn._reorder_linear_weight(joined.detach(), FULL_TILE)
            self.weights = ()
            self.dtype = joined.dtype

    def __call__(self, hidden: Tensor) -> Tensor:
        """[B, T, D] to [B, T, sum of M_i]."""
        if self.packed is None:
            products = [F.linear(hidden, weight) for weight in self.weights]
            return products[0] if len(products) == 1 else torch.cat(products, dim=-1)
        batch, length, _ = hidden.shape
        rows = hidden.flatten(0, 1).to(self.dtype)
        count = batch * length
        if count == 1:
            rows = rows.expand(FULL_TILE, -1)
        elif count == 2:
            rows = torch.cat((rows, rows))
        product: Tensor = _MULTIPLY(rows, self.packed, None, "none", [], "")
        return product[:count].unflatten(0, (batch, length)).type_as(hidden)


def _find_kernel() -> Any:
    """oneDNN's product with a packed matrix; None if torch was built without it."""
    operators = torch.ops.mkldnn
    if torch.backends.mkldnn.is_available() and hasattr(operators, "_reorder_linear_weight"):
        return operators._linear_pointwise.default
    return None


_MULTIPLY = _find_kernel()


def _has_kernel(dtype: torch.dtype) -> bool:
    if _MULTIPLY is None:
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32
