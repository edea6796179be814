"""Linear maps for a few rows at a time, as decoding has them.

The product of a few rows and a matrix need not take longer than reading the matrix. On CPUs the
kernels behind `F.linear` take up to several times that in float32, and half as much again in
bfloat16; oneDNN's, on a matrix laid out for them, do not. torch has them for compiled models.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FULL_TILE = 4
"""Rows that oneDNN multiplies faster than one or two, which therefore are repeated."""

SMALL = 2**17
"""Elements up to which a matrix is not worth the call of oneDNN's operator, of some 15 us."""


class PackedLinear:
    """The maps of several matrices [M_i, D] without bias on the same input, as one product.

    On a CPU it holds a copy of the matrices, so it should live no longer than they stay as they
    are. Elsewhere, and under autocast, it is `F.linear` with each of them.

    Args:
        weights: the matrices, of one type.
        rough: whether to read large ones in bfloat16 on CPUs that multiply it: half the time, and
            results off by a two hundredth.
    """

    def __init__(self, *weights: Tensor, rough: bool = False) -> None:
        self.weights = weights
        self.packed: Tensor | None = None
        if weights[0].device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return
        joined = torch.cat(weights) if len(weights) > 1 else weights[0]
        self.weights = (joined.detach(),)
        if joined.numel() <= SMALL:
            return
        if rough and joined.dtype is torch.float32 and _has_kernel(torch.bfloat16):
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
    """The product with a packed matrix; None in a build of torch that has none."""
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
