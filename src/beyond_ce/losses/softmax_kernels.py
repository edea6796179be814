"""The passes over the logits that a cross-entropy on a GPU needs, each as one kernel.

Cross-entropy is bound by memory: torch reads and writes the logits of a half-precision model about
a dozen times, in float32 at that. These kernels read them once forward, and read and write them
once backward, in the precision they have; sums run in float32. They are written in Triton, which
is part of torch for GPUs. Elsewhere, and in float64, `has_kernels` says no.

Shapes: N rows, V columns, C of these named.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

if find_spec("triton") is not None:
    import triton
    from triton import language as tl
else:  # the CPU build of torch has none
    triton = None

BLOCK = 4096
"""Columns that a program holds at a time; a power of two."""


def has_kernels(logits: Tensor) -> bool:
    """Whether the kernels can be used on logits like these."""
    return (
        triton is not None
        and logits.is_cuda
        and logits.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and not torch.compiler.is_compiling()  # the compiler makes kernels of its own
    )


def logsumexp(logits: Tensor) -> Tensor:
    """log sum_v exp(logits_nv), [N, 1] in float32, of contiguous `logits` [N, V]."""
    sums = torch.empty(len(logits), 1, dtype=torch.float32, device=logits.device)
    if len(logits):
        _logsumexp[(len(logits),)](logits, sums, logits.shape[1], BLOCK, num_warps=8)
    return sums


def log_softmax_at(logits: Tensor, normaliser: Tensor, columns: Tensor) -> Tensor:
    """Log-probabilities [N, C] in float32 in the `columns` [N, C], given the `logsumexp` [N, 1]."""
    return logits.gather(1, columns).float() - normaliser


def scaled_softmax(
    logits: Tensor,
    normaliser: Tensor,
    scale: Tensor,
    columns: Tensor,
    added: Tensor,
    out: Tensor | None = None,
) -> Tensor:
    """scale_n softmax(logits_n), plus added_nc in column columns_nc: a cross-entropy's gradient.

    Args:
        logits: contiguous [N, V].
        normaliser: [N, 1], their `logsumexp`.
        scale: [N, 1] in float32; rows of zeros stay zeros, whatever their logits.
        columns: long [N, C]; the first may be one of the others, which differ from each other.
        added: [N, C] in float32.
        out: [N, V] like the logits, or the logits themselves; a new tensor by default.
    """
    out = torch.empty_like(logits) if out is None else out
    if not len(logits):
        return out
    # In float32, before they are overwritten: half precision would round once more in the sum.
    named = log_softmax_at(logits, normaliser, columns).exp() * scale
    named = named.masked_fill_(scale == 0, 0)
    first, others = added[:, :1], added[:, 1:]
    same = columns[:, :1] == columns[:, 1:]
    named[:, :1] += first + (others * same).sum(1, keepdim=True)
    named[:, 1:] += others + first * same
    _scaled_softmax[(len(logits),)](
        logits, normaliser, scale, out, logits.shape[1], BLOCK, num_warps=8
    )
    return out.scatter_(1, columns, named.to(out.dtype))


if triton is not None:

    @triton.jit
    def _logsumexp(logits, sums, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        logits += row * width
        largest = -float("inf")
        total = 0.0
        for start in range(0, width, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            x = tl.load(logits + columns, mask=columns < width, other=-float("inf"))
            x = x.to(tl.float32)
            new = tl.maximum(largest, tl.max(x, axis=0))
            shift = tl.where(new == -float("inf"), 0.0, new)  # a block of impossible tokens
            total = total * tl.exp(largest - shift) + tl.sum(tl.exp(x - shift), axis=0)
            largest = new
        tl.store(sums + row, largest + tl.log(total))

    @triton.jit
    def _scaled_softmax(logits, normaliser, scale, out, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        logits += row * width
        out += row * width
        normaliser = tl.load(normaliser + row)
        scale = tl.load(scale + row)
        for start in range(0, width, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            inside = columns < width
            x = tl.load(logits + columns, mask=inside, other=-float("inf")).to(tl.float32)
            p = tl.where(scale == 0.0, 0.0, tl.exp(x - normaliser) * scale)
            tl.store(out + columns, p.to(out.dtype.element_ty), mask=inside)
