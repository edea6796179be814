"""What the trainer minimises: a model and its loss, as one module.

Shapes: B sequences, T positions, D hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from beyond_ce.batches.batch import Batch, future_labels
from beyond_ce.losses.base import Loss, LossOutput

if TYPE_CHECKING:
    from beyond_ce.models.base import LanguageModel


class Objective(nn.Module):
    """A model and a loss as one module, so that any parallel strategy wraps the whole step.

    If the head is a plain unembedding, the loss is computed from the hidden states, and the
    [B, T, V] logits are never materialised.

    A head for several offsets has one loss per offset, each with its own labels and a mean over its
    own valid positions. The total is their sum weighted by `head.loss_weights`.

    Memory does not grow with the number of offsets: the forward pass of this module runs one offset
    at a time, forward and backward, and keeps only the summed gradients of the trunk's output and
    of the head's parameters (MTP paper, section 2, "memory-efficient implementation"). The result
    is one scalar with one backward pass, as for any other head, and parallel strategies synchronise
    each gradient once.
    """

    first_trained: ClassVar[int] = 0
    """The losses from this offset on make the total; those before are terms of an evaluation."""

    def __init__(self, model: LanguageModel, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def started(self) -> None:
        """Called when the model has the weights that it starts from, before training."""

    def hidden(self, batch: Batch) -> Tensor:
        """The trunk's output [B, T, D]."""
        return self.model.trunk(batch)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """The denominators of the batch's means (see `Loss.counts`), for all offsets."""
        return {
            _name(offset, name): count
            for offset in range(self.model.head.n)
            for name, count in self.loss.counts(_labels(batch, offset)).items()
        }

    def forward(
        self, batch: Batch, counts: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss (scalar) and its named terms; later heads' terms are named like `head2/ce`.

        Args:
            batch: from the model's `make_batch` or `packed_batch`.
            counts: denominators to use instead of the batch's own (see `counts`).
        """
        if self.training:
            self.model.head.count(batch.labels)
        hidden = self.hidden(batch)
        if self.model.head.n == 1:
            features = self.model.head.features(hidden)
            out = self._loss(features, batch, 0, counts)
            return out.total, out.terms
        heads = _HeadByHead(self, batch, counts)
        return heads.total(hidden), heads.terms

    def _loss(
        self, features: Tensor, batch: Batch, offset: int, counts: dict[str, Tensor] | None
    ) -> LossOutput:
        """The loss of one offset from the features [B, T, D] of its head."""
        head, labels = self.model.head, _labels(batch, offset)
        if counts is not None and head.n > 1:
            counts = {name: counts[_name(offset, name)] for name in self.loss.counts(labels)}
        unembedding = head.unembedding(offset)
        if unembedding is None:
            return self.loss(head.logits(features, offset), labels, counts)
        return self.loss.from_hidden(features, unembedding, labels, counts)


class _HeadByHead:
    """One pass through all offsets of a head, which collects their losses, terms and gradients."""

    def __init__(
        self, objective: Objective, batch: Batch, counts: dict[str, Tensor] | None
    ) -> None:
        self.objective = objective
        self.head = objective.model.head
        self.batch = batch
        self.counts = counts
        self.first = objective.first_trained if objective.training else 0
        offsets = range(self.first, self.head.n)
        self.needed = [step for offset in offsets for step in self.head.path(offset)]
        self.parameters = _used_parameters(self.head)
        self.gradients: list[Tensor | None] = [None] * len(self.parameters)
        self.losses: list[Tensor] = []
        self.terms: dict[str, Tensor] = {}

    def total(self, hidden: Tensor) -> Tensor:
        """The total loss, from the trunk's output [B, T, D]."""
        leaf = _leaf(hidden)
        self._run_offsets_from(None, leaf)
        total = torch.stack(self.losses).sum()
        if not torch.is_grad_enabled():
            return total
        return _KnownGradients.apply(total, [leaf.grad, *self.gradients], hidden, *self.parameters)

    def _run_offsets_from(self, source: int | None, before: Tensor) -> None:
        """Runs the offsets that start from the state of offset `source` (None for the trunk's
        output), then recursively those that start from their states.

        An offset's logits are freed before the next offset begins. The graph of its block is kept
        until all offsets that start from its state have added to that state's gradient.

        Args:
            before: the state, a leaf; the gradients of all these offsets are added to its own.
        """
        for offset in range(self.head.n):
            if self.head.source(offset) != source or offset not in self.needed:
                continue
            state = self.head.advance(before, offset)
            leaf = _leaf(state)
            if offset >= self.first:
                self._add_loss(leaf, offset)
            self._run_offsets_from(offset, leaf)
            if leaf.grad is not None:
                self._backward(state, leaf.grad, before)

    def _add_loss(self, leaf: Tensor, offset: int) -> None:
        """Computes the loss of an offset from its state, and the gradients of that."""
        out = self.objective._loss(self.head.output(leaf), self.batch, offset, self.counts)
        weighted = self.head.loss_weights[offset] * out.total
        self._backward(weighted, None, leaf)
        if offset >= self.objective.first_trained:
            self.losses.append(weighted.detach())
        for name, term in out.terms.items():
            self.terms[_name(offset, name)] = term.detach()

    def _backward(self, value: Tensor, gradient: Tensor | None, leaf: Tensor) -> None:
        """Adds the gradients of `value` to those of `leaf` and the head's parameters."""
        if not torch.is_grad_enabled() or not value.requires_grad:
            return
        # A trunk without gradients has a leaf without one.
        wanted = [leaf, *self.parameters] if leaf.requires_grad else self.parameters
        with torch.autocast(value.device.type, enabled=False):  # as outside of a forward pass
            new = torch.autograd.grad(value, wanted, gradient, allow_unused=True)
        if leaf.requires_grad:
            leaf.grad = _sum(leaf.grad, new[0])
            new = new[1:]
        self.gradients = [_sum(*pair) for pair in zip(self.gradients, new, strict=True)]


class _KnownGradients(Function):
    """A scalar with known gradients with respect to `inputs`, for an incoming gradient of 1."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, value: Tensor, gradients: list[Tensor | None], *inputs: Tensor
    ) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        # Scaled in place: a second tensor as large as the unembedding would be the step's largest.
        if ctx.gradients is None:
            raise RuntimeError("the gradients of a multi-token head can be taken only once")
        known, ctx.gradients = ctx.gradients, None
        return None, None, *(None if g is None else g.mul_(grad.to(g.dtype)) for g in known)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(torch.is_grad_enabled() and tensor.requires_grad)


def _sum(total: Tensor | None, new: Tensor | None) -> Tensor | None:
    if new is None:
        return total
    # A copy, as autograd may hand out one tensor as several gradients.
    return new.clone() if total is None else total.add_(new)


def _used_parameters(module: nn.Module) -> list[Tensor]:
    """The module's parameters, each once, as its forward pass uses them.

    FSDP replaces them by views of one flat parameter, which are plain attributes of the modules.
    """
    unique: dict[int, Tensor] = {}
    for owner in module.modules():
        for value in (*owner._parameters.values(), *_views(owner)):
            if value is not None and value.requires_grad:
                unique.setdefault(id(value), value)
    return list(unique.values())


def _views(module: nn.Module) -> list[Tensor]:
    return [value for value in vars(module).values() if isinstance(value, Tensor)]


def _labels(batch: Batch, offset: int) -> Tensor:
    return future_labels(batch.labels, batch.segments, offset) if offset else batch.labels


def _name(offset: int, name: str) -> str:
    return f"head{offset + 1}/{name}" if offset else name
