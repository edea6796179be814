"""How a `Decoder` reads a few tokens at a time: with a cache, and its matrices joined and packed.

The arithmetic is that of `layers`, in fewer operations. Only heads that draft take a short cut:
what they say is verified, so that they can read their matrices in bfloat16.

Shapes: B sequences, T new tokens, D hidden size, H attention heads, E = D / H, V vocabulary,
k heads to decode with.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F

from beyond_ce.models.heads import MultiTokenHead
from beyond_ce.models.key_value_cache import KeyValueCache, Span
from beyond_ce.models.layers import DecoderLayer, rotate
from beyond_ce.models.packed_linear import PackedLinear

if TYPE_CHECKING:
    from beyond_ce.models.decoder import Decoder

Versions = list[tuple[StorageWeakRef, int]]


class DecodingLayer:
    """A `DecoderLayer` that reads on from a cache.

    Args:
        layer: whose weights it takes.
        rough: see `PackedLinear`.
    """

    def __init__(self, layer: DecoderLayer, rough: bool) -> None:
        attention, feed_forward = layer.attention, layer.feed_forward
        self.head_dim = attention.head_dim
        self.attention_norm, self.ffn_norm = layer.attention_norm, layer.ffn_norm
        pack = partial(PackedLinear, rough=rough)
        self.qkv = pack(attention.wq.weight, attention.wk.weight, attention.wv.weight)
        self.wo = pack(attention.wo.weight)
        self.w13 = pack(feed_forward.w1.weight, feed_forward.w3.weight)
        self.w2 = pack(feed_forward.w2.weight)

    def __call__(
        self, hidden: Tensor, span: Span, cache: KeyValueCache, only: Choice | None = None
    ) -> Tensor:
        """[B, T, D] to [B, T, D], or to [B, 1, D] for `only` one token of each row."""
        projected = self.qkv(self.attention_norm(hidden))
        qkv = projected.unflatten(-1, (3, -1, self.head_dim))
        _rotate(qkv[:, :, :2], span)
        cache.write(qkv[:, :, 1:], span)
        queries, seen = qkv[:, :, 0], span
        if only is not None:
            queries, hidden, seen = only(queries), only(hidden), only.span
        keys, values = cache.read(seen.width)
        mixed = F.scaled_dot_product_attention(
            queries.transpose(1, 2), keys, values, seen.mask(queries.dtype), is_causal=seen.causal
        )
        hidden = hidden + self.wo(mixed.transpose(1, 2).flatten(-2))
        gate, value = self.w13(self.ffn_norm(hidden)).chunk(2, dim=-1)
        return hidden + self.w2(F.silu(gate).mul_(value))


class Choice:
    """One token of each row of a span, by its place among the T."""

    def __init__(self, span: Span, places: list[int]) -> None:
        self.places = places
        self.span = span.at(places)
        self._index = span.rows[:, 0], torch.tensor(places, device=span.rows.device)

    def __call__(self, values: Tensor) -> Tensor:
        """[B, 1, ..] of [B, T, ..]."""
        if len(self.places) == 1:
            return values[:, self.places[0], None]
        return values[self._index][:, None]


Block = Callable[..., Tensor]
"""Takes what a `DecodingLayer` takes."""


class DecodingWeights:
    """A model's layers and matrices as decoding uses them, those of the heads when first needed.

    On a CPU they are copies (see `PackedLinear`).
    """

    def __init__(self, model: Decoder) -> None:
        self.layers = [_decoding(layer) for layer in model.layers]
        self._head, self._vocab_size = model.head, model.vocab_size
        self._blocks: dict[tuple[int, bool], Block] = {}
        self._unembeddings: dict[tuple[int, bool], Callable[[Tensor], Tensor]] = {}

    def block(self, offset: int, rough: bool = False) -> Block:
        """The block of a head."""
        if (offset, rough) not in self._blocks:
            head = self._head
            block = head.blocks[offset] if isinstance(head, MultiTokenHead) else nn.Identity()
            self._blocks[offset, rough] = _decoding(block, rough)
        return self._blocks[offset, rough]

    def logits(self, features: Tensor) -> Tensor:
        """Logits [B, T, V] of the next token from its head's features [B, T, D]."""
        return self._unembedding(0, rough=False)(features)

    def draft_logits(self, features: Tensor) -> Tensor:
        """Logits [B, k - 1, V] of heads 2 to k from the features [B, k - 1, D] of each."""
        # Heads that share a matrix share a product.
        offsets = range(1, 1 + features.shape[1])
        products = len({id(self._head.unembedding(offset)) for offset in offsets})
        parts = zip(offsets, features.chunk(products, dim=1), strict=False)
        return torch.cat([self._unembedding(i, rough=True)(part) for i, part in parts], dim=1)

    def _unembedding(self, offset: int, rough: bool) -> Callable[[Tensor], Tensor]:
        """From a head's features to logits, padded columns cut off."""
        if (offset, rough) not in self._unembeddings:
            head, size = self._head, self._vocab_size
            matrix = head.unembedding(offset)
            self._unembeddings[offset, rough] = (
                (lambda features: head.logits(features, offset)[..., :size])
                if matrix is None
                else PackedLinear(matrix[:size], rough=rough)
            )
        return self._unembeddings[offset, rough]


_KEPT: WeakKeyDictionary[Decoder, tuple[Versions, DecodingWeights]] = WeakKeyDictionary()


def decoding_weights(model: Decoder) -> DecodingWeights:
    """The model's weights for decoding, kept until they change, or until it is told to train.

    A change through `Tensor.data`, which torch counts nowhere, is not noticed.
    """
    parameters = list(model.parameters())
    if torch.is_autocast_enabled("cpu") or any(weight.is_inference() for weight in parameters):
        return DecodingWeights(model)  # not for later, or with no way to tell that they change
    versions = [(StorageWeakRef(p.untyped_storage()), p._version) for p in parameters]
    kept = _KEPT.get(model)
    if kept is None or kept[0] != versions:
        kept = _KEPT[model] = versions, DecodingWeights(model)
    return kept[1]


def forget_decoding_weights(model: Decoder) -> None:
    """Frees what is kept of the model."""
    _KEPT.pop(model, None)


def _decoding(module: nn.Module, rough: bool = False) -> Block:
    """A layer of the trunk or a head's block as decoding runs it."""
    if isinstance(module, DecoderLayer):
        return DecodingLayer(module, rough)
    apply = PackedLinear(module.weight, rough=rough) if isinstance(module, nn.Linear) else module
    return lambda hidden, span, cache, only=None: apply(hidden if only is None else only(hidden))


def _rotate(x: Tensor, span: Span) -> None:
    """As `rotate`, of [B, T, .., H, E] in place."""
    if x.dtype in (torch.float32, torch.float64):
        torch.view_as_complex(x.unflatten(-1, (-1, 2))).mul_(span.turns)
    else:
        x.copy_(rotate(x, span.rotations))
