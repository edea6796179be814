"""How a `Decoder` reads a few tokens at a time: with a cache, and its matrices joined and packed.

The arithmetic is that of `layers`, in fewer operations. Only heads that draft take a short cut:
what they say is verified, so that they can read their matrices in bfloat16.

Shapes: B sequences, T new tokens, D hidden size, H attention heads, E = D / H, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beyond_ce.models.base import DecodingState
from beyond_ce.models.heads import MultiTokenHead
from beyond_ce.models.key_value_cache import KeyValueCache, Span
from beyond_ce.models.layers import DecoderLayer, rotate
from beyond_ce.models.packed_linear import PackedLinear

if TYPE_CHECKING:
    from beyond_ce.models.decoder import Decoder


class DecodingLayer:
    """A `DecoderLayer` and what it remembers.

    Args:
        layer: whose weights it takes.
        capacity: positions in the cache.
        rough: see `PackedLinear`.
    """

    def __init__(self, layer: DecoderLayer, capacity: int, rough: bool) -> None:
        attention, feed_forward = layer.attention, layer.feed_forward
        self.head_dim = attention.head_dim
        self.attention_norm, self.ffn_norm = layer.attention_norm, layer.ffn_norm
        pack = partial(PackedLinear, rough=rough)
        self.qkv = pack(attention.wq.weight, attention.wk.weight, attention.wv.weight)
        self.wo = pack(attention.wo.weight)
        self.w13 = pack(feed_forward.w1.weight, feed_forward.w3.weight)
        self.w2 = pack(feed_forward.w2.weight)
        self.cache = KeyValueCache(capacity)

    def __call__(self, hidden: Tensor, span: Span, only: Choice | None = None) -> Tensor:
        """[B, T, D] to [B, T, D], or to [B, 1, D] for `only` one token of each row."""
        projected = self.qkv(self.attention_norm(hidden))
        qkv = projected.unflatten(-1, (3, -1, self.head_dim))
        _rotate(qkv[:, :, :2], span)
        self.cache.write(qkv[:, :, 1:], span)
        queries, seen = qkv[:, :, 0], span
        if only is not None:
            queries, hidden, seen = only(queries), only(hidden), only.span
        keys, values = self.cache.read(seen.width)
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


class DecoderState(DecodingState):
    """What a `Decoder` remembers of B sequences while it decodes.

    Rows stand at positions of their own: all start at 0 whatever the length of their prompts, and
    those that read several tokens may keep fewer of them. What is beyond a row's length in the
    cache is never seen, and overwritten later.

    It holds copies of the weights (see `PackedLinear`), and therefore is of no use after training.

    Args:
        model: what decodes.
        rows: B.
        capacity: tokens that a row may read, rejected ones included.
        heads: how many of the model's heads decode.
    """

    def __init__(self, model: Decoder, rows: int, capacity: int, heads: int) -> None:
        self.lengths = [0] * rows
        self._heads = heads
        self._model = model
        self._head = head = model.head
        self._layers = [_decoding(layer, capacity) for layer in model.layers]
        # Offsets whose blocks the next token needs, and those that drafts need besides, in order.
        self._first = head.path(0)
        paths = [head.path(offset) for offset in range(heads)]
        self._ahead = [
            offset
            for offset in dict.fromkeys(chain.from_iterable(paths))
            if offset not in self._first
        ]
        self._sources = {head.source(offset) for offset in self._ahead}
        blocks = head.blocks if isinstance(head, MultiTokenHead) else [nn.Identity()]
        self._blocks = {offset: _decoding(blocks[offset], capacity) for offset in self._first}
        for offset in self._ahead:
            self._blocks[offset] = _decoding(blocks[offset], capacity, rough=True)
        self._next = _unembedding(model, 0)
        # Heads that share a matrix share a product.
        apart = len({id(head.unembedding(offset)) for offset in range(1, heads)})
        self._later = [_unembedding(model, 1 + i, rough=True) for i in range(apart)]

    @torch.no_grad()
    def read(self, tokens: Tensor) -> Tensor:
        """Features [B, T, D] of the next token's head after each of `tokens` (long [B, T]), which
        follow the `lengths` of their rows."""
        self._span = Span(self.lengths, tokens.shape[1], self._model.rotary)
        hidden = self._model.embedding(tokens)
        for layer in self._layers:
            hidden = layer(hidden, self._span)
        hidden = self._model.norm(hidden)
        # What the other heads start from, by offset; None stands for the trunk.
        self._states: dict[int | None, Tensor] = {None: hidden}
        for offset in self._first:
            hidden = self._states[offset] = self._blocks[offset](hidden, self._span)
        return self._head.output(hidden)

    @torch.no_grad()
    def look_ahead(self, places: list[int]) -> Tensor:
        """Logits [B, heads - 1, V] of the other heads at one of the tokens just read in each row,
        by its place among the T; roughly.

        Their blocks remember all T tokens, and go on with that one only, unless another head reads
        its neighbour's state.
        """
        choice = Choice(self._span, places)
        chosen = {offset: choice(state) for offset, state in self._states.items()}
        for offset in self._ahead:
            block, state = self._blocks[offset], self._states[self._head.source(offset)]
            if offset in self._sources:
                self._states[offset] = block(state, self._span)
                chosen[offset] = choice(self._states[offset])
            else:
                chosen[offset] = block(state, self._span, choice)
        later = [chosen[offset] for offset in range(1, self._heads)]
        features = self._head.output(torch.cat(later, dim=1))
        parts = zip(self._later, features.chunk(len(self._later), dim=1), strict=True)
        return torch.cat([unembed(part) for unembed, part in parts], dim=1)

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Logits [B, T, V] of the next token from its head's features [B, T, D]."""
        return self._next(features)

    def select(self, rows: Tensor) -> None:
        self.lengths = [self.lengths[row] for row in rows.tolist()]
        for block in (*self._layers, *self._blocks.values()):
            if isinstance(block, DecodingLayer):
                block.cache.select(rows)


def _decoding(module: nn.Module, capacity: int, rough: bool = False) -> Block:
    """A layer of the trunk or a head's block as decoding runs it."""
    if isinstance(module, DecoderLayer):
        return DecodingLayer(module, capacity, rough)
    apply = PackedLinear(module.weight, rough=rough) if isinstance(module, nn.Linear) else module
    return lambda hidden, span, only=None: apply(hidden if only is None else only(hidden))


def _unembedding(model: Decoder, offset: int, rough: bool = False) -> Callable[[Tensor], Tensor]:
    """From a head's features to logits, padded columns cut off."""
    matrix = model.head.unembedding(offset)
    if matrix is None:
        return lambda features: model.head.logits(features, offset)[..., : model.vocab_size]
    return PackedLinear(matrix[: model.vocab_size], rough=rough)


def _rotate(x: Tensor, span: Span) -> None:
    """As `rotate`, of [B, T, .., H, E] in place."""
    if x.dtype in (torch.float32, torch.float64):
        torch.view_as_complex(x.unflatten(-1, (-1, 2))).mul_(span.turns)
    else:
        x.copy_(rotate(x, span.rotations))
