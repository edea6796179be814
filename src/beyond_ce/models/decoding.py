"""How a `Decoder` reads a few tokens at a time: with a cache, and its matrices fused and packed.

The arithmetic is that of `layers`, in fewer operations.

Shapes: B sequences, T new tokens, D hidden size, H attention heads, E = D / H, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beyond_ce.models.base import DecodingState
from beyond_ce.models.heads import Head, MultiTokenHead
from beyond_ce.models.key_value_cache import KeyValueCache, Span
from beyond_ce.models.layers import DecoderLayer, rotate
from beyond_ce.models.packed_linear import PackedLinear

if TYPE_CHECKING:
    from beyond_ce.models.decoder import Decoder


class DecodingLayer:
    """A `DecoderLayer` and what it remembers."""

    def __init__(self, layer: DecoderLayer, capacity: int) -> None:
        attention, feed_forward = layer.attention, layer.feed_forward
        self.head_dim = attention.head_dim
        self.attention_norm, self.ffn_norm = layer.attention_norm, layer.ffn_norm
        self.qkv = PackedLinear(attention.wq.weight, attention.wk.weight, attention.wv.weight)
        self.wo = PackedLinear(attention.wo.weight)
        self.w13 = PackedLinear(feed_forward.w1.weight, feed_forward.w3.weight)
        self.w2 = PackedLinear(feed_forward.w2.weight)
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
        device = span.positions.device
        self._index = torch.arange(len(places), device=device), torch.tensor(places, device=device)

    def __call__(self, values: Tensor) -> Tensor:
        """[B, 1, ..] of [B, T, ..]."""
        if len(self.places) == 1:
            return values[:, self.places[0], None]
        return values[self._index][:, None]


Block = Callable[[Tensor, Span, Choice | None], Tensor]


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
        self._model = model
        self._head = model.head
        self._layers = [DecodingLayer(layer, capacity) for layer in model.layers]
        paths = [model.head.path(offset) for offset in range(heads)]
        self._first = paths[0]
        ahead = dict.fromkeys(offset for path in paths[1:] for offset in path)
        self._ahead = [offset for offset in ahead if offset not in self._first]
        self._read_by_others = {model.head.source(offset) for offset in self._ahead}
        self._blocks = {
            offset: _block(model.head, offset, capacity) for offset in (*self._first, *self._ahead)
        }
        matrices = [model.head.unembedding(offset) for offset in range(heads)]
        packed = {
            id(matrix): PackedLinear(matrix[: model.vocab_size])
            for matrix in matrices
            if matrix is not None
        }
        self._unembeddings = [packed.get(id(matrix)) for matrix in matrices]

    def read(self, tokens: Tensor) -> Tensor:
        """Features [B, T, D] of the next token's head after each of `tokens` (long [B, T]), which
        follow the `lengths` of their rows."""
        self._span = Span(self.lengths, tokens.shape[1], self._model.rotary)
        hidden = self._model.embedding(tokens)
        for layer in self._layers:
            hidden = layer(hidden, self._span)
        hidden = self._model.norm(hidden)
        # States that the other heads start from, by offset; the trunk's has none.
        self._states: dict[int | None, Tensor] = {None: hidden}
        for offset in self._first:
            hidden = self._blocks[offset](hidden, self._span, None)
            self._states[offset] = hidden
        return self._head.output(hidden)

    def look_ahead(self, places: list[int]) -> Tensor:
        """Logits [B, heads - 1, V] of the other heads at one of the tokens just read in each row,
        by its place among the T.

        Their blocks remember all T tokens, and go on with that one only, unless another head reads
        its neighbour's state.
        """
        choice = Choice(self._span, places)
        chosen = {offset: choice(state) for offset, state in self._states.items()}
        for offset in self._ahead:
            source = self._head.source(offset)
            block = self._blocks[offset]
            if offset in self._read_by_others:
                self._states[offset] = block(self._states[source], self._span, None)
                chosen[offset] = choice(self._states[offset])
            else:
                chosen[offset] = block(self._states[source], self._span, choice)
        features = [self._head.output(chosen[i]) for i in range(1, len(self._unembeddings))]
        if len(set(self._unembeddings)) == 1 and self._unembeddings[0] is not None:
            return self.logits(torch.cat(features, dim=1))
        return torch.cat([self.logits(each, i) for i, each in enumerate(features, 1)], dim=1)

    def logits(self, features: Tensor, offset: int = 0) -> Tensor:
        """Logits [B, T, V] of a head from its features [B, T, D], padded columns cut off."""
        unembedding = self._unembeddings[offset]
        if unembedding is None:
            return self._head.logits(features, offset)[..., : self._model.vocab_size]
        return unembedding(features)

    def select(self, rows: Tensor) -> None:
        self.lengths = [self.lengths[row] for row in rows.tolist()]
        for block in (*self._layers, *self._blocks.values()):
            if isinstance(block, DecodingLayer):
                block.cache.select(rows)


def _block(head: Head, offset: int, capacity: int) -> Block:
    """A head's block as decoding runs it."""
    if not isinstance(head, MultiTokenHead):
        return lambda hidden, span, only: hidden if only is None else only(hidden)
    block = head.blocks[offset]
    if isinstance(block, DecoderLayer):
        return DecodingLayer(block, capacity)
    apply = PackedLinear(block.weight) if isinstance(block, nn.Linear) else block
    return lambda hidden, span, only: apply(hidden if only is None else only(hidden))


def _rotate(x: Tensor, span: Span) -> None:
    """As `rotate`, of [B, T, .., H, E] in place."""
    if x.dtype in (torch.float32, torch.float64):
        turns = torch.view_as_complex(span.rotations)
        torch.view_as_complex(x.unflatten(-1, (-1, 2))).mul_(turns)
    else:
        x.copy_(rotate(x, span.rotations))
