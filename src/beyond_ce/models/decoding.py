"""Fast decoding of a few tokens at a time with a `Decoder`: cached, with fused and packed matrices.

The arithmetic is the same as in `layers`, in fewer operations: on a CPU, a few tokens go through
all layers in one (see `cpu_kernels`), where a model in bfloat16 keeps its states in float32. In a
model in float32 only draft heads may use bfloat16 matrices, because their tokens are verified.

Shapes: B sequences, T new tokens, D hidden size, H attention heads, G heads of keys and values,
E = D / H, V vocabulary, k heads to decode with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F

from beyond_ce.models.cpu_kernels import Kernels, Layer
from beyond_ce.models.heads import MultiTokenHead
from beyond_ce.models.heads.recurrent import RecurrentBlock
from beyond_ce.models.key_value_cache import CacheSlots, KeyValueCache
from beyond_ce.models.layers import DecoderLayer, rotate
from beyond_ce.models.packed_linear import PackedLinear, each_its_own

if TYPE_CHECKING:
    from beyond_ce.models.decoder import Decoder

Versions = list[tuple[StorageWeakRef, int]]

_FEW_QUERIES = 4
"""With so many new tokens per sequence, our kernel of attention is faster than torch's on a CPU."""


class DecodingLayer:
    """A `DecoderLayer` that continues from a cache.

    Args:
        layer: the layer to take the weights from.
        low_precision: see `PackedLinear`.

    Attributes:
        calls: about how many operations of torch a forward calls.
        elements: of all matrices together.
    """

    calls = 32

    def __init__(self, layer: DecoderLayer, low_precision: bool) -> None:
        attention, feed_forward = layer.attention, layer.feed_forward
        self.head_dim = attention.head_dim
        self.attention_norm, self.ffn_norm = layer.attention_norm, layer.ffn_norm
        pack = partial(PackedLinear, low_precision=low_precision)
        projections = (attention.wq, attention.wk, attention.wv)
        self.qkv = pack(*(linear.weight for linear in projections))
        self.heads = (attention.wq.out_features // self.head_dim, attention.num_kv_heads)
        self.bias: Tensor | None = None
        if attention.wq.bias is not None:
            self.bias = torch.cat([linear.bias for linear in projections])
        self.wo = pack(attention.wo.weight)
        self.w13 = pack(feed_forward.w1.weight, feed_forward.w3.weight)
        self.w2 = pack(feed_forward.w2.weight)
        self._products = (self.qkv, self.wo, self.w13, self.w2)
        self.elements = sum(product.elements for product in self._products)

    def for_kernels(self) -> Layer:
        """Its sizes and the addresses of its weights."""
        vectors: dict[str, Tensor] = {
            "attention_scale": self.attention_norm.weight,
            "feed_forward_scale": self.ffn_norm.weight,
        }
        if self.bias is not None:
            vectors["bias"] = self.bias
        self._vectors = {name: vector.detach().float() for name, vector in vectors.items()}
        names = ("wq", "wk", "wv", "wo", "w1", "w3", "w2")
        matrices = [matrix for product in self._products for matrix in product.weights]
        count, groups = self.heads
        return Layer(
            dim=matrices[0].shape[1],
            heads=count,
            groups=groups,
            head_size=self.head_dim,
            hidden_size=matrices[-1].shape[1],
            attention_eps=self.attention_norm.eps,
            feed_forward_eps=self.ffn_norm.eps,
            **{name: vector.data_ptr() for name, vector in self._vectors.items()},
            **{name: matrix.data_ptr() for name, matrix in zip(names, matrices, strict=True)},
        )

    def __call__(
        self,
        hidden: Tensor,
        slots: CacheSlots,
        cache: KeyValueCache,
        selection: TokenSelection | None = None,
    ) -> Tensor:
        """[B, T, D] to [B, T, D], or to [B, 1, D] for one selected token per row."""
        count, groups = self.heads
        projected = self.qkv(self.attention_norm(hidden))
        if self.bias is not None:
            projected = projected + self.bias.type_as(projected)
        qkv = projected.unflatten(-1, (-1, self.head_dim))
        _rotate(qkv[:, :, : count + groups, None], slots)
        cache.write(qkv[:, :, count:].unflatten(2, (2, groups)), slots)
        queries = qkv[:, :, :count]
        if selection is not None:
            queries, hidden, slots = selection(queries), selection(hidden), selection.slots
        hidden = hidden + self.wo(self._attend(queries, slots, cache).flatten(-2))
        gate, value = self.w13(self.ffn_norm(hidden)).chunk(2, dim=-1)
        return hidden + self.w2(F.silu(gate).mul_(value))

    def _attend(self, queries: Tensor, slots: CacheSlots, cache: KeyValueCache) -> Tensor:
        """Queries [B, T, H, E] to what they attend to in the cache."""
        kernels = self.qkv.kernels
        if kernels is not None and slots.length <= _FEW_QUERIES and not slots.causal:
            return kernels.attention(queries, cache.keys_values, slots.positions)
        keys, values = cache.read(slots.width)
        count, groups = self.heads
        mixed = F.scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys,
            values,
            slots.mask(queries.dtype),
            is_causal=slots.causal,
            enable_gqa=count != groups,
        )
        return mixed.transpose(1, 2)


class DecodingLayers:
    """Consecutive layers as `DecodingLayer`; on a CPU, a few tokens go through all in one call."""

    def __init__(self, layers: Iterable[DecoderLayer], low_precision: bool = False) -> None:
        self._layers = [DecodingLayer(layer, low_precision) for layer in layers]
        self._kernels = self._layers[0].qkv.kernels if self._layers else None
        if self._kernels is not None:
            structures = [layer.for_kernels() for layer in self._layers]
            self._for_kernels = (Layer * len(structures))(*structures)
            self._hidden_size = structures[0].hidden_size
            self._weights = self._layers[0].elements
            self._dtype = self._layers[0].qkv.weights[0].dtype

    def __call__(
        self,
        hidden: Tensor,
        slots: CacheSlots,
        caches: Sequence[KeyValueCache],
        selection: TokenSelection | None = None,
    ) -> Tensor:
        """[B, T, D] to [B, T, D], or to [B, 1, D] for one selected token per row."""
        if self._kernels is not None and self._are_few(self._kernels, hidden, selection):
            first = self._layers[0]
            return self._kernels.layers(
                self._for_kernels,
                self._dtype,
                hidden,
                [cache.storage(hidden, first.heads[1], first.head_dim) for cache in caches],
                slots.positions,
                slots.rotations,
                None if selection is None else selection.places,
            )
        for layer, cache in zip(self._layers, caches, strict=True):
            is_last = layer is self._layers[-1]
            hidden = layer(hidden, slots, cache, selection if is_last else None)
        return hidden

    def _are_few(self, kernels: Kernels, hidden: Tensor, selection: TokenSelection | None) -> bool:
        batch, length, dim = hidden.shape
        kept = batch * length if selection is None else batch
        elements = max(batch * length * dim, kept * self._hidden_size)
        return kernels.are_few(
            self._dtype, batch * length, elements, self._weights, DecodingLayer.calls
        )


class TokenSelection:
    """Selects one of the T new tokens of each row.

    Args:
        slots: of the T tokens.
        indices: the selected token's index among the T, for each row.

    Attributes:
        slots: of the selected tokens.
    """

    def __init__(self, slots: CacheSlots, indices: list[int]) -> None:
        self.indices = indices
        self._all = slots

    @cached_property
    def slots(self) -> CacheSlots:
        return self._all.select(self.indices)

    @cached_property
    def places(self) -> Tensor:
        """Long [B], indices into the B T tokens."""
        rows, indices = self._index
        return rows * self._all.length + indices

    @cached_property
    def _index(self) -> tuple[Tensor, Tensor]:
        rows = self._all.rows[:, 0]
        return rows, torch.tensor(self.indices, device=rows.device)

    def __call__(self, values: Tensor) -> Tensor:
        """[B, T, ..] to [B, 1, ..]."""
        if len(self.indices) == 1:
            return values[:, self.indices[0], None]
        return values[self._index][:, None]


Block = Callable[..., Tensor]
"""Has the arguments of `DecodingLayer.__call__`."""


class DecodingWeights:
    """A model's layers and matrices, prepared for decoding; those of the heads on first use.

    On a CPU they are copies (see `PackedLinear`).
    """

    def __init__(self, model: Decoder) -> None:
        self.layers = DecodingLayers(cast(Iterable[DecoderLayer], model.layers))
        self._head, self._vocab_size = model.head, model.vocab_size
        # The tokens to draft, by their column in `draft_logits`; None for all of the vocabulary.
        self._draft_ids: Tensor | None = None
        if isinstance(model.head, MultiTokenHead):
            self._draft_ids = model.head.draft_ids(model.vocab_size)
        self._blocks: dict[tuple[int, bool], Block] = {}
        self._unembeddings: dict[tuple[int, bool], Callable[[Tensor], Tensor]] = {}
        self._matrices: dict[tuple[int, bool], PackedLinear] = {}  # by the matrix's id
        self._linear_drafts: dict[tuple[int, ...], Callable[[Tensor], Tensor] | None] = {}

    def block(self, offset: int, low_precision: bool = False) -> Block:
        """The block of the head at `offset`."""
        if (offset, low_precision) not in self._blocks:
            head = self._head
            block = head.blocks[offset] if isinstance(head, MultiTokenHead) else nn.Identity()
            self._blocks[offset, low_precision] = _decoding_block(block, low_precision)
        return self._blocks[offset, low_precision]

    def logits(self, features: Tensor) -> Tensor:
        """Logits [B, T, V] of the next token from its head's features [B, T, D]."""
        return self._unembedding(0, low_precision=False)(features)

    def linear_drafts(self, offsets: Sequence[int]) -> Callable[[Tensor], Tensor] | None:
        """Maps the trunk's states [B, 1, D] to those of several heads [B, m, D] in one product;
        None unless their blocks are linear."""
        key = tuple(offsets)
        if key not in self._linear_drafts:
            head, made = self._head, None
            blocks = [head.blocks[i] for i in offsets] if isinstance(head, MultiTokenHead) else []
            if blocks and all(isinstance(block, nn.Linear) for block in blocks):
                weights = [cast(nn.Linear, block).weight for block in blocks]
                product = PackedLinear(torch.cat(weights), low_precision=True)
                made = partial(_split_heads, product, len(blocks))
            self._linear_drafts[key] = made
        return self._linear_drafts[key]

    def draft_logits(self, features: Tensor, first: int = 1) -> Tensor:
        """Logits [B, m, V] of m heads from their features [B, m, D], of the tokens to draft only.

        Args:
            first: the offset of the first of them.
        """
        # Heads that share a matrix share a product.
        offsets = range(first, first + features.shape[1])
        unembeddings = [self._unembedding(offset, low_precision=True) for offset in offsets]
        if all(unembedding is unembeddings[0] for unembedding in unembeddings):
            return unembeddings[0](features)
        return each_its_own(unembeddings, features)

    def drafted(self, logits: Tensor) -> Tensor:
        """The most probable tokens, long [B, m], of `draft_logits` [B, m, V]."""
        columns = logits.argmax(dim=-1)
        return columns if self._draft_ids is None else self._draft_ids[columns]

    def _unembedding(self, offset: int, low_precision: bool) -> Callable[[Tensor], Tensor]:
        """Maps a head's features to logits, without padded columns; in low precision, which is
        for drafts, only of the tokens to draft."""
        if (offset, low_precision) not in self._unembeddings:
            made = self._make_unembedding(offset, low_precision)
            self._unembeddings[offset, low_precision] = made
        return self._unembeddings[offset, low_precision]

    def _make_unembedding(self, offset: int, low_precision: bool) -> Callable[[Tensor], Tensor]:
        head, size = self._head, self._vocab_size
        matrix = head.unembedding(offset)
        if matrix is None:
            return lambda features: head.logits(features, offset)[..., :size]
        key = id(matrix), low_precision
        if key not in self._matrices:
            drafts_only = low_precision and self._draft_ids is not None
            rows = matrix[self._draft_ids] if drafts_only else matrix[:size]
            self._matrices[key] = PackedLinear(rows, low_precision=low_precision)
        return self._matrices[key]


def _split_heads(product: PackedLinear, heads: int, hidden: Tensor) -> Tensor:
    """The product [B, 1, m D] as [B, m, D]."""
    return product(hidden).unflatten(-1, (heads, -1)).squeeze(1)


_CACHED: WeakKeyDictionary[Decoder, tuple[Versions, DecodingWeights]] = WeakKeyDictionary()


def decoding_weights(model: Decoder) -> DecodingWeights:
    """The model's weights for decoding, cached until the model changes or is set to train.

    Changes through `Tensor.data` go unnoticed, because torch does not count them.
    """
    parameters = list(model.parameters())
    if torch.is_autocast_enabled("cpu") or any(weight.is_inference() for weight in parameters):
        # Do not cache: valid under autocast only, or changes cannot be detected.
        return DecodingWeights(model)
    versions = [(StorageWeakRef(p.untyped_storage()), p._version) for p in parameters]
    cached = _CACHED.get(model)
    if cached is None or cached[0] != versions:
        cached = _CACHED[model] = versions, DecodingWeights(model)
    return cached[1]


def forget_decoding_weights(model: Decoder) -> None:
    """Frees the model's cached weights."""
    _CACHED.pop(model, None)


def _decoding_block(module: nn.Module, low_precision: bool = False) -> Block:
    """Prepares a trunk layer or a head's block for decoding."""
    if isinstance(module, DecoderLayer):
        layers = DecodingLayers([module], low_precision)
        return lambda hidden, slots, cache, selection=None: layers(
            hidden, slots, [cache], selection
        )
    if isinstance(module, RecurrentBlock):
        layer = _decoding_block(module.layer, low_precision)
        project = PackedLinear(module.project.weight, low_precision=low_precision)
        normalized = module.normalized
        return lambda joined, slots, cache, selection=None: layer(
            project(normalized(joined)), slots, cache, selection
        )
    apply: Callable[[Tensor], Tensor] = module
    if isinstance(module, nn.Linear):
        apply = PackedLinear(module.weight, low_precision=low_precision)
    return lambda hidden, slots, cache, selection=None: apply(
        hidden if selection is None else selection(hidden)
    )


def _rotate(x: Tensor, slots: CacheSlots) -> None:
    """`rotate` on [B, T, H + G, 1, E], in place."""
    if x.dtype in (torch.float32, torch.float64):
        torch.view_as_complex(x.unflatten(-1, (-1, 2))).mul_(slots.complex_rotations)
    else:
        x.copy_(rotate(x, slots.rotations))
