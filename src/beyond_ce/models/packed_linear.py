"""Fast linear maps of a few rows at a time, as in decoding.

Multiplying a few rows by a matrix should take no longer than reading the matrix. On CPUs the
kernels behind `F.linear` take up to several times as long. Ours, in `cpu_kernels`, do not for up to
8 rows in float32 and 4 in bfloat16, or for more if the matrix is small. Otherwise, and where ours
cannot be compiled, oneDNN's are the fastest, if the matrix is in their own layout; torch includes
them for compiled models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from beyond_ce.models import cpu_kernels
from beyond_ce.models.cpu_kernels import Kernels

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
        low_precision: whether to store matrices in bfloat16, if the CPU supports it: half the
            time, with a relative error of about 1/200. Without kernels of our own, only large ones.

    Attributes:
        elements: of all matrices together.
        kernels: our own for `weights`, or None.
    """

    def __init__(self, *weights: Tensor, low_precision: bool = False) -> None:
        self.weights = weights
        self.elements = sum(weight.numel() for weight in weights)
        self.packed: Tensor | None = None
        self.kernels: Kernels | None = None
        if weights[0].device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return
        dtype = given = weights[0].dtype
        if low_precision and given is torch.float32 and _has_kernel(torch.bfloat16):
            dtype = torch.bfloat16
        self.kernels = cpu_kernels.kernels(dtype, given)
        if self.kernels is not None:
            self.weights = tuple(weight.detach().to(dtype).contiguous() for weight in weights)
        joined = (torch.cat(weights) if len(weights) > 1 else weights[0]).detach()
        if joined.numel() > SMALL and _has_kernel(dtype):
            self.packed = torch.ops.mkldnn._reorder_linear_weight(joined.to(dtype), FULL_TILE)
            self.dtype = dtype
        if self.kernels is None:
            self.weights = (joined,) if self.packed is None else ()

    def __call__(self, hidden: Tensor) -> Tensor:
        """[B, T, D] to [B, T, sum of M_i]."""
        batch, length, _ = hidden.shape
        count = batch * length
        if self.kernels is not None and self.kernels.are_few(
            self.weights[0].dtype, count, hidden.numel(), self.elements, calls=1
        ):
            return _joined([self.kernels.linear(hidden, weight) for weight in self.weights])
        if self.packed is None:
            if self.kernels is None:
                return _joined([F.linear(hidden, weight) for weight in self.weights])
            converted = hidden.to(self.weights[0].dtype)
            products = [F.linear(converted, weight) for weight in self.weights]
            return _joined(products).type_as(hidden)
        rows = hidden.flatten(0, 1).to(self.dtype)
        if count == 1:
            rows = rows.expand(FULL_TILE, -1)
        elif count == 2:
            rows = torch.cat((rows, rows))
        product: Tensor = _MULTIPLY(rows, self.packed, None, "none", [], "")
        return product[:count].unflatten(0, (batch, length)).type_as(hidden)


def each_its_own(products: Sequence[Callable[[Tensor], Tensor]], hidden: Tensor) -> Tensor:
    """[B, P, D] to [B, P, M]: each of P rows through its own of P maps from D to M."""
    packed = [product for product in products if isinstance(product, PackedLinear)]
    kernels = packed[0].kernels if len(packed) == len(products) else None
    if kernels is not None:
        matrices = [matrix for product in packed for matrix in product.weights]
        elements = sum(product.elements for product in packed)
        if kernels.are_few(
            *(matrices[0].dtype, hidden.shape[0], hidden.numel(), elements), calls=len(packed)
        ):
            return kernels.linear(hidden, *matrices)
    parts = zip(products, hidden.unbind(dim=1), strict=True)
    return torch.cat([product(part[:, None]) for product, part in parts], dim=1)


def _joined(products: list[Tensor]) -> Tensor:
    return products[0] if len(products) == 1 else torch.cat(products, dim=-1)


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
