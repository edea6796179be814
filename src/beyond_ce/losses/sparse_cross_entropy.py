"""Cross-entropy against targets on a few columns, in one pass over the vocabulary.

Every loss of this package is a cross-entropy with a target on the label's column, and sometimes on
the number tokens' columns, plus a function of the number tokens' logits. In plain tensor
operations, autograd would build a [N, V] gradient for each of these parts and add them up. The two
functions here return everything that any of the losses needs (see `CrossEntropySums`) and write a
single gradient.

`sparse_cross_entropy` starts from logits. `linear_sparse_cross_entropy` starts from hidden states
and an unembedding, and never holds more than a few rows of logits (chunked as in Liger Kernel, Hsu
et al. 2024, arXiv:2410.10989). Both return sums, so the caller chooses the denominators. On a GPU
the passes over the logits are those of `softmax_kernels`.

Shapes: N rows, V columns of the logits (at least the tokenizer's size), K number tokens, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from beyond_ce.losses.softmax_kernels import (
    has_kernels,
    log_softmax_at,
    logsumexp,
    scaled_softmax,
)

# Logits are processed in chunks of rows. On a CPU a chunk should stay in the cache between
# operations, but be large enough that threads rarely wait for each other (4 MiB is 3% faster on an
# idle machine and several times slower on a busy one). On other devices it should fill the device.
CPU_CHUNK_BYTES = 16 << 20
CPU_MATMUL_CHUNK_BYTES = 32 << 20  # matrix products of a few hundred rows
DEVICE_CHUNK_BYTES = 256 << 20


class CrossEntropySums(NamedTuple):
    """Everything that a loss needs from the logits.

    Attributes:
        nll: scalar, -sum_n (label_weight_n log p_n[label_n] + sum_k target_nk log p_n[id_k]), where
            target is `number_target`.
        number_logits: [N, K], the logits of the number tokens up to a constant per row, or, with
            `normalised`, their log-probabilities.
    """

    nll: Tensor
    number_logits: Tensor


class CrossEntropyFunction(Protocol):
    """`sparse_cross_entropy` with its logits bound, or `linear_sparse_cross_entropy` with hidden
    states and unembedding bound; a loss does not need to know which."""

    def __call__(
        self,
        *,
        labels: Tensor,
        label_weight: Tensor,
        number_ids: Tensor,
        number_target: Tensor | None = None,
        normalised: bool = False,
    ) -> CrossEntropySums:
        """Arguments as for `sparse_cross_entropy`."""
        ...


def sparse_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    label_weight: Tensor,
    number_ids: Tensor,
    number_target: Tensor | None = None,
    normalised: bool = False,
) -> CrossEntropySums:
    """Summed cross-entropy and number logits of `logits` [N, V].

    `labels` [N] long in [0, V), `label_weight` [N], `number_ids` [K] long without repetition,
    `number_target` [N, K] or None for zeros. Rows whose weights are all zero add nothing, and
    chunks of them cost nothing on a CPU. Sums run in float32 (float64 for float64 logits).

    `number_logits` are shifted by each row's logsumexp, which gradients treat as a constant: use
    them only where a constant per row does not matter, as in a softmax. With `normalised` the shift
    is differentiated as well, and they are log-probabilities.
    """
    targets = (labels, label_weight, number_ids, number_target)
    return CrossEntropySums(*_SparseCrossEntropy.apply(logits, *targets, normalised))


def linear_sparse_cross_entropy(
    hidden: Tensor,
    unembedding: Tensor,
    labels: Tensor,
    label_weight: Tensor,
    number_ids: Tensor,
    number_target: Tensor | None = None,
    normalised: bool = False,
) -> CrossEntropySums:
    """`sparse_cross_entropy` of the logits `hidden` [N, D] @ `unembedding` [V, D].T.

    Under autocast the products run in its dtype. The forward pass, which has the logits, computes
    the gradients; the backward pass scales them and can run only once. With `normalised` the
    backward pass recomputes the logits.
    """
    if not torch.is_grad_enabled():  # needs_input_grad is true for parameters even then
        hidden, unembedding = hidden.detach(), unembedding.detach()
    autocast = torch.is_autocast_enabled(hidden.device.type)
    dtype = torch.get_autocast_dtype(hidden.device.type) if autocast else hidden.dtype
    with torch.autocast(hidden.device.type, enabled=False):
        targets = (labels, label_weight, number_ids, number_target)
        sums = _LinearSparseCrossEntropy.apply(hidden, unembedding, *targets, normalised, dtype)
    return CrossEntropySums(*sums)


class _SparseCrossEntropy(Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        label_weight: Tensor,
        number_ids: Tensor,
        number_target: Tensor | None,
        normalised: bool,
    ) -> tuple[Tensor, Tensor]:
        dtype = _sum_dtype(logits)
        columns = _columns(labels, number_ids)
        target = _target(label_weight, number_ids, number_target, dtype)
        normaliser = None
        if has_kernels(logits):
            logits = logits.contiguous()
            normaliser = logsumexp(logits)
            log_p = log_softmax_at(logits, normaliser, columns)
        else:
            log_p = torch.zeros(columns.shape, dtype=dtype, device=logits.device)
            for rows in _chunks(logits, target, CPU_CHUNK_BYTES):
                log_p[rows] = _log_p(logits[rows], columns[rows], dtype)
        ctx.save_for_backward(logits, normaliser, columns, target)
        ctx.normalised = normalised
        return _nll(log_p, target, number_target is not None), log_p[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, grad_nll: Tensor, grad_number_logits: Tensor
    ) -> tuple[Tensor | None, ...]:
        logits, normaliser, columns, target = ctx.saved_tensors
        scale = target.sum(1, keepdim=True) * grad_nll
        grad_columns = target * -grad_nll
        grad_columns[:, 1:] += grad_number_logits
        if ctx.normalised:
            scale -= grad_number_logits.sum(1, keepdim=True)
        if normaliser is not None:
            found = scaled_softmax(logits, normaliser, scale, columns, grad_columns)
            return found, None, None, None, None, None
        # Recomputing the exponentials is cheaper than keeping [N, V] of them from the forward pass.
        grad = torch.empty_like(logits)
        in_place = grad.dtype == target.dtype and not torch.compiler.is_compiling()
        done = 0
        for rows in _chunks(logits, target, CPU_CHUNK_BYTES):
            grad[done : rows.start].zero_()
            out = grad[rows] if in_place else None
            p = torch.softmax(logits[rows], -1, dtype=target.dtype, out=out).mul_(scale[rows])
            p.scatter_add_(1, columns[rows], grad_columns[rows])
            if not in_place:
                grad[rows] = p
            done = rows.stop
        grad[done:].zero_()
        return grad, None, None, None, None, None


class _LinearSparseCrossEntropy(Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        unembedding: Tensor,
        labels: Tensor,
        label_weight: Tensor,
        number_ids: Tensor,
        number_target: Tensor | None,
        normalised: bool,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        sum_dtype = _sum_dtype(hidden)
        columns = _columns(labels, number_ids)
        target = _target(label_weight, number_ids, number_target, sum_dtype)
        h, w = hidden.to(dtype), unembedding.to(dtype)
        log_p = torch.zeros(columns.shape, dtype=sum_dtype, device=hidden.device)
        scale, minus_target = target.sum(1, keepdim=True), -target
        grad_hidden = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        grad_w = None
        if ctx.needs_input_grad[1]:
            grad_w = torch.zeros(w.shape, dtype=sum_dtype, device=w.device)
        for rows in _chunks(log_p, target, CPU_MATMUL_CHUNK_BYTES, width=len(w)):
            x = h[rows] @ w.T
            if grad_hidden is None and grad_w is None:
                log_p[rows] = _log_p(x, columns[rows], sum_dtype)
                continue
            log_p[rows], p = _log_p_and_gradient(x, columns[rows], scale[rows], minus_target[rows])
            if grad_hidden is not None:
                grad_hidden[rows] = (p @ w).to(hidden.dtype)
            if grad_w is not None:
                _add_product(grad_w, p.T, h[rows])
            del x, p  # free this chunk's logits before the next chunk allocates its own
        ctx.save_for_backward(h, w, number_ids, grad_hidden, grad_w)
        ctx.unembedding_dtype = unembedding.dtype
        ctx.normalised = normalised
        return _nll(log_p, target, number_target is not None), log_p[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, grad_nll: Tensor, grad_number_logits: Tensor
    ) -> tuple[Tensor | None, ...]:
        h, w, number_ids, grad_hidden, grad_w = ctx.saved_tensors
        # In place, because a second [V, D] would be the largest tensor here. A second backward
        # through the same graph fails with autograd's error about modified saved tensors.
        scale = -grad_number_logits.sum(1, keepdim=True) if ctx.normalised else None
        grad_number_logits = grad_number_logits.to(h.dtype)
        if grad_hidden is not None:
            grad_hidden.mul_(grad_nll).add_(grad_number_logits @ w[number_ids])
        if grad_w is not None:
            grad_w.mul_(grad_nll)
            grad_w.index_add_(0, number_ids, (grad_number_logits.T @ h).to(grad_w.dtype))
        if scale is not None:
            _add_normaliser(scale, h, w, grad_hidden, grad_w)
        if grad_w is not None:
            grad_w = grad_w.to(ctx.unembedding_dtype)
        return grad_hidden, grad_w, None, None, None, None, None, None


def _log_p(logits: Tensor, columns: Tensor, dtype: torch.dtype) -> Tensor:
    """Log-probabilities [N, C] in `dtype` of the logits' `columns` [N, C]."""
    if has_kernels(logits):
        return log_softmax_at(logits, logsumexp(logits), columns)
    return F.log_softmax(logits, -1, dtype=dtype).gather(1, columns)


def _log_p_and_gradient(
    logits: Tensor, columns: Tensor, scale: Tensor, added: Tensor
) -> tuple[Tensor, Tensor]:
    """`_log_p`, and scale_n softmax(logits_n) plus added_nc in column c, which replaces the logits.

    `scale` [N, 1] and `added` [N, C] are in the precision that sums have, the gradient in that of
    the logits.
    """
    if has_kernels(logits):
        normaliser = logsumexp(logits)
        log_p = log_softmax_at(logits, normaliser, columns)
        return log_p, scaled_softmax(logits, normaliser, scale, columns, added, out=logits)
    # A log-softmax in place: the logits are needed twice, and one chunk of them is held.
    x = logits.to(scale.dtype)
    x -= x.amax(1, keepdim=True)
    gathered = x.gather(1, columns)
    total = x.exp_().sum(1, keepdim=True)
    p = x.mul_(scale / total).scatter_add_(1, columns, added)
    return gathered - total.log(), p.to(logits.dtype)


def _add_normaliser(
    scale: Tensor, h: Tensor, w: Tensor, grad_hidden: Tensor | None, grad_w: Tensor | None
) -> None:
    """Add the gradient of sum_n scale_n logsumexp(h_n @ w.T), `scale` [N, 1], in place."""
    for rows in _chunks(scale, scale, CPU_MATMUL_CHUNK_BYTES, width=len(w)):
        p = torch.softmax(h[rows] @ w.T, -1, dtype=scale.dtype).mul_(scale[rows]).to(h.dtype)
        if grad_hidden is not None:
            grad_hidden[rows] += p @ w
        if grad_w is not None:
            _add_product(grad_w, p.T, h[rows])
        del p  # free it before the next chunk allocates its own


def _sum_dtype(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _columns(labels: Tensor, number_ids: Tensor) -> Tensor:
    """Long [N, 1 + K]: the columns that have targets, the label's first."""
    return torch.cat([labels[:, None], number_ids.expand(len(labels), -1)], 1)


def _target(
    label_weight: Tensor, number_ids: Tensor, number_target: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """[N, 1 + K]: the weight of each of `_columns`."""
    if number_target is None:
        number_target = label_weight.new_zeros(len(label_weight), len(number_ids))
    return torch.cat([label_weight[:, None].to(dtype), number_target.to(dtype)], 1)


def _nll(log_p: Tensor, target: Tensor, with_numbers: bool) -> Tensor:
    # A zero weight masks an infinite log-probability. The labels have a sum of their own, so the
    # cross-entropy is bitwise the same with any number tokens.
    terms = (target * log_p).masked_fill_(target == 0, 0)
    nll = -terms[:, 0].sum()
    return nll - terms[:, 1:].sum() if with_numbers else nll


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:  # half-precision products, summed over the chunks in float32
        total.add_(a @ b)


def _chunks(
    like: Tensor, target: Tensor, cpu_bytes: int, width: int | None = None
) -> Iterator[slice]:
    """Slices of rows that fit the chunk size; a row has `width` values (default: `like`'s).

    On a CPU, where the check needs no synchronisation, chunks without a target are skipped.
    """
    n = len(like)
    if torch.compiler.is_compiling():  # the compiler does its own fusion over all rows
        yield slice(0, n)
        return
    on_cpu = like.device.type == "cpu"
    row_bytes = (width or like.shape[1]) * target.element_size()
    size = max(1, (cpu_bytes if on_cpu else DEVICE_CHUNK_BYTES) // row_bytes)
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        if not on_cpu or target[rows].any():
            yield rows
