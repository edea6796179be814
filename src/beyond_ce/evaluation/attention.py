"""Which attention heads are induction heads: from a token's second occurrence, how much do they
attend to what followed its first one?

Source: Olsson et al. 2022, In-context Learning and Induction Heads (arXiv:2209.11895).

Shapes: B rows, T positions, P pairs of positions, L layers, H attention heads, G heads of keys and
values, E = D / H.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from beyond_ce.batches.batch import pad
from beyond_ce.data.sampling import bit_generator, integers_below
from beyond_ce.models import evaluating
from beyond_ce.models.layers import DecoderLayer, rotate

if TYPE_CHECKING:
    from beyond_ce.models.decoder import Decoder

Pair = tuple[int, int, int]
"""Row, position that attends, and position that is attended to."""


def next_token_layers(model: Decoder) -> list[DecoderLayer]:
    """The layers L that the next token's prediction goes through, in order: those of the trunk, and
    the blocks of head 1, if they are layers."""
    blocks = getattr(model.head, "blocks", None)
    path = [] if blocks is None else [blocks[offset] for offset in model.head.path(0)]
    return [layer for layer in (*model.layers, *path) if isinstance(layer, DecoderLayer)]


def attention_weights(layer: DecoderLayer, hidden: Tensor, rows: Tensor, queries: Tensor) -> Tensor:
    """The attention weights [P, H, T] of some positions, recomputed from a layer's projections.

    Args:
        hidden: the layer's input [B, T, D].
        rows, queries: long [P]; position `queries` of row `rows` attends.
    """
    attention = layer.attention
    states, rotations = layer.attention_norm(hidden), layer.rotary(hidden.shape[1])
    query = rotate(attention.wq(states).unflatten(-1, (-1, attention.head_dim)), rotations)
    key = rotate(attention.wk(states).unflatten(-1, (-1, attention.head_dim)), rotations)
    key = key.repeat_interleave(query.shape[2] // key.shape[2], dim=2)  # G to H
    scores = torch.einsum("phe,pthe->pht", query[rows, queries], key[rows]).float()
    later = torch.arange(hidden.shape[1], device=hidden.device) > queries[:, None, None]
    scores = scores.masked_fill(later, -torch.inf)
    return (scores * attention.head_dim**-0.5).softmax(-1)


@torch.inference_mode()
def mean_attention(
    model: Decoder,
    texts: Sequence[Sequence[int]],
    pairs: Sequence[Pair],
    batch_size: int,
) -> Tensor:
    """The attention weight of each head of each layer, mean over the pairs: float64 [L, H].

    Args:
        texts: tokens; `pairs`, of which there must be one, are positions in them.
    """
    device = model.embedding.weight.device
    layers = next_token_layers(model)
    heads = layers[0].attention.wq.out_features // layers[0].attention.head_dim
    total = torch.zeros(len(layers), heads, dtype=torch.float64)
    with evaluating(model):
        for start in range(0, len(texts), batch_size):
            part = [pair for pair in pairs if start <= pair[0] < start + batch_size]
            if not part:
                continue
            rows, queries, keys = torch.tensor(part, device=device).T
            tokens = pad(texts[start : start + batch_size], model.pad_id).to(device)
            hidden = model.embedding(tokens)
            for i, layer in enumerate(layers):
                weights = attention_weights(layer, hidden, rows - start, queries)
                attended = weights.take_along_dim(keys[:, None, None], dim=-1)[..., 0]
                total[i] += attended.double().sum(0).cpu()
                hidden = layer(hidden)
    return total / len(pairs)


def repeated_tokens(
    vocab_size: int, special: set[int], rows: int, length: int, seed: int
) -> tuple[list[list[int]], list[Pair]]:
    """Rows of `length` random tokens followed by the same tokens again, and for each token of the
    second half the pair of its position and the one after its first occurrence."""
    ordinary = np.array([i for i in range(vocab_size) if i not in special])
    drawn = integers_below(bit_generator(seed), len(ordinary), (rows, length))
    halves = ordinary[drawn].tolist()
    pairs = [(row, length + i, i + 1) for row in range(rows) for i in range(length)]
    return [half + half for half in halves], pairs
