"""Layers of a decoder-only transformer like Llama (Touvron et al., 2023).

RMSNorm before every sublayer, rotary positions on interleaved pairs (as in Meta's own code and
checkpoints), SwiGLU, no biases but those that Qwen2 adds to queries, keys and values. Parameters
are named as in Meta's checkpoints.

Shapes: B sequences, T positions, H attention heads, G heads of keys and values, D hidden size,
E = D / H.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beyond_ce.models.rope_scaling import frequencies


class DecoderLayer(nn.Module):
    """Self-attention and SwiGLU, each with an RMSNorm before it and a residual connection.

    The feed-forward size is Llama's: two thirds of 4 D, so three matrices cost as much as two
    before, rounded up to a multiple of `multiple_of`.

    Weights are initialised from a normal distribution with variance 1 / fan-in. A model of `depth`
    layers has 2 `depth` matrices that write to the residual stream; these start smaller, so the sum
    of their outputs has variance 1.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        multiple_of: int,
        norm_eps: float,
        depth: int,
        rotary: Rotary,
        num_kv_heads: int | None = None,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        hidden_dim = multiple_of * -(-int(2 * 4 * dim / 3) // multiple_of)
        self.rotary = rotary
        self.attention = Attention(dim, num_heads, num_kv_heads, qkv_bias)
        self.feed_forward = FeedForward(dim, hidden_dim)
        self.attention_norm = nn.RMSNorm(dim, norm_eps)
        self.ffn_norm = nn.RMSNorm(dim, norm_eps)
        output_projections = (self.attention.wo, self.feed_forward.w2)
        for linear in self.modules():
            if isinstance(linear, nn.Linear):
                scale = (2 * depth) ** -0.5 if linear in output_projections else 1.0
                nn.init.normal_(linear.weight, std=scale * linear.in_features**-0.5)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D] of full sequences; `DecodingLayer` is the version with a cache."""
        rotations = self.rotary(hidden.shape[1])
        hidden = hidden + self.attention(self.attention_norm(hidden), rotations)
        return hidden + self.feed_forward(self.ffn_norm(hidden))


class Attention(nn.Module):
    """Causal multi-head self-attention with rotary positions.

    Args:
        dim: D.
        num_heads: H.
        num_kv_heads: G; each head of keys and values serves H / G neighbouring heads of queries
            (grouped-query attention, Ainslie et al., 2023). None for H.
        qkv_bias: whether queries, keys and values have biases.
    """

    def __init__(
        self, dim: int, num_heads: int, num_kv_heads: int | None = None, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        self.head_dim = dim // num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.grouped = self.num_kv_heads != num_heads
        kv_dim = self.num_kv_heads * self.head_dim
        self.wq = nn.Linear(dim, dim, bias=qkv_bias)
        self.wk = nn.Linear(dim, kv_dim, bias=qkv_bias)
        self.wv = nn.Linear(dim, kv_dim, bias=qkv_bias)
        self.wo = nn.Linear(dim, dim, bias=False)

    def forward(self, hidden: Tensor, rotations: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]; `rotations` are broadcastable to [B, T, H, E / 2, 2]."""
        queries = rotate(self.wq(hidden).unflatten(-1, (-1, self.head_dim)), rotations)
        keys = rotate(self.wk(hidden).unflatten(-1, (-1, self.head_dim)), rotations)
        values = self.wv(hidden).unflatten(-1, (-1, self.head_dim))
        mixed = F.scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            is_causal=True,
            enable_gqa=self.grouped,
        )
        return self.wo(mixed.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    """SwiGLU (Shazeer, 2020)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden_dim, bias=False)
        self.w2 = nn.Linear(hidden_dim, dim, bias=False)
        self.w3 = nn.Linear(dim, hidden_dim, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(hidden)) * self.w3(hidden))


class Rotary(nn.Module):
    """Cosine and sine of every position's angles (Su et al., 2021), shared by a model's layers.

    They are not in checkpoints. They stay float32 in half-precision models, because neighbouring
    positions would become equal in half precision.

    Args:
        length: number of positions.
        head_dim: E.
        theta: base of the wavelengths.
        scaling: changes the wavelengths (see `check_scaling`).
    """

    table: Tensor

    def __init__(
        self,
        length: int,
        head_dim: int,
        theta: float,
        scaling: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.length, self.head_dim, self.theta, self.scaling = length, head_dim, theta, scaling
        table = rotary_table(length, head_dim, theta, scaling)
        self.register_buffer("table", table, persistent=False)

    def reset(self, device: torch.device | str) -> None:
        """Rebuilds the table on a device, for models that were built on the meta device."""
        with torch.device(device):
            self.table = rotary_table(self.length, self.head_dim, self.theta, self.scaling)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Rotary:
        super()._apply(fn, recurse)
        if self.table.dtype.itemsize < 4:
            self.reset(self.table.device)
        return self

    def forward(self, length: int) -> Tensor:
        """[length, 1, E / 2, 2]: the angles of positions 0 to length - 1, for `rotate`."""
        return self.table[:length, None]

    def at(self, positions: Tensor) -> Tensor:
        """[B, T, 1, E / 2, 2]: the angles of `positions` [B, T]."""
        return self.table[positions][:, :, None]


def rotary_table(
    length: int, head_dim: int, theta: float, scaling: Mapping[str, Any] | None = None
) -> Tensor:
    """Cosine and sine of every position's angles, float32 [length, E / 2, 2]."""
    speeds, factor = frequencies(head_dim, theta, scaling)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), speeds)
    table = torch.stack((angles.cos(), angles.sin()), dim=-1)
    return table if factor == 1 else table * factor


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Rotates each pair of neighbouring channels of [B, T, H, E] by its position's angle."""
    pairs = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # which has no code for complex numbers
        (even, odd), (cos, sin) = pairs.unbind(-1), rotations.unbind(-1)
        rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    else:  # one pass over memory instead of seven
        product = torch.view_as_complex(pairs) * torch.view_as_complex(rotations)
        rotated = torch.view_as_real(product)
    return rotated.flatten(-2).type_as(x)
