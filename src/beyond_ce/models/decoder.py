"""A decoder-only transformer in the manner of Llama (Touvron et al., 2023).

RMSNorm before every sublayer, rotary positions on interleaved pairs (as in Meta's own code and
checkpoints), SwiGLU, no biases, embedding and unembedding untied.

Shapes: B sequences, T positions, K positions in the cache, H attention heads, D hidden size,
E = D / H, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beyond_ce.data.batch import Batch, Numbers, pad
from beyond_ce.errors import UsageError
from beyond_ce.models.base import DecodingState, LanguageModel, causal_batch, last_state
from beyond_ce.models.heads import Head, RegressionHead


class Decoder(LanguageModel):
    """A Llama-like trunk with any head.

    Args:
        vocab_size, pad_id, eos_id: the tokenizer's.
        head: builds the head from `dim` and `vocab_size`.
        dim: hidden size D, a multiple of 2 H.
        num_layers, num_heads: of the trunk.
        max_length: longest sequence in tokens, prompt and answer together.
        multiple_of: the feed-forward size is rounded up to a multiple of it.
        norm_eps: added to the mean square in RMSNorm.
        rope_theta: base of the rotary wavelengths.

    Raises:
        UsageError: `dim` does not divide into heads of an even size.
    """

    rotations: Tensor

    def __init__(
        self,
        vocab_size: int,
        pad_id: int,
        eos_id: int,
        head: Callable[..., Head],
        dim: int,
        num_layers: int,
        num_heads: int,
        max_length: int,
        multiple_of: int = 256,
        norm_eps: float = 1e-5,
        rope_theta: float = 10000.0,
    ) -> None:
        super().__init__(vocab_size, pad_id, eos_id)
        if dim % (2 * num_heads):
            raise UsageError(
                f"model.dim={dim} does not divide into {num_heads} heads of an even size: "
                f"make it a multiple of {2 * num_heads}"
            )
        self.max_length = max_length
        self.embedding = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList(
            DecoderLayer(dim, num_heads, multiple_of, norm_eps, num_layers)
            for _ in range(num_layers)
        )
        self.norm = nn.RMSNorm(dim, norm_eps)
        self.head = head(dim=dim, vocab_size=vocab_size)
        rotations = rotary_table(max_length, dim // num_heads, rope_theta)
        self.register_buffer("rotations", rotations, persistent=False)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)

    def make_batch(
        self,
        prompts: list[list[int]],
        answers: list[list[int]],
        numbers: Numbers | None = None,
    ) -> Batch:
        batch = causal_batch(self.head, prompts, answers, numbers, self.pad_id)
        self._check_length(batch.input_ids.shape[1])
        return batch

    def trunk(self, batch: Batch) -> Tensor:
        # Padding stands on the right, where causal attention never looks back from.
        hidden = self.embedding(batch.input_ids)
        rotations = self.rotations[: hidden.shape[1], None]
        for layer in self.layers:
            hidden = layer(hidden, rotations)
        if isinstance(self.head, RegressionHead):
            hidden = last_state(hidden, batch.attention_mask)
        return self.norm(hidden)

    def prefill(self, prompts: list[list[int]], max_new_tokens: int) -> tuple[DecoderState, Tensor]:
        if not all(prompts):
            raise UsageError("a decoder-only model cannot go on from an empty prompt")
        device = self.embedding.weight.device
        tokens = pad(prompts, self.pad_id).to(device)
        capacity = tokens.shape[1] + max_new_tokens - 1  # the last new token is never read
        self._check_length(capacity)
        state = DecoderState(
            lengths=torch.zeros(len(prompts), dtype=torch.long, device=device),
            past=[KeyValueCache(capacity) for _ in self.layers],
        )
        hidden = self._extend(state, tokens)
        # Rows differ in length: what padding wrote to the cache is overwritten before it is seen.
        state.lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        last = hidden[torch.arange(len(prompts), device=device), state.lengths - 1]
        return state, self.next_token_logits(last)

    def step(self, state: DecodingState, tokens: Tensor) -> Tensor:
        assert isinstance(state, DecoderState)
        hidden = self._extend(state, tokens[:, None])
        state.lengths = state.lengths + 1
        return self.next_token_logits(hidden[:, 0])

    def _extend(self, state: DecoderState, tokens: Tensor) -> Tensor:
        """Hidden states [B, T, D] of tokens that follow the first `state.lengths` of each row."""
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        positions = state.lengths[:, None] + steps
        state.width += tokens.shape[1]
        hidden = self.embedding(tokens)
        rotations = self.rotations[positions][:, :, None]
        visible = torch.arange(state.width, device=tokens.device) <= positions[:, None, :, None]
        for layer, cache in zip(self.layers, state.past, strict=True):
            hidden = layer(hidden, rotations, Past(cache, positions, visible))
        return self.norm(hidden)

    def _check_length(self, length: int) -> None:
        if length > self.max_length:
            raise UsageError(
                f"a sequence of {length} tokens, prompt and answer together, exceeds the model's "
                f"context of {self.max_length}: raise model.max_length or shorten the data"
            )


class DecoderLayer(nn.Module):
    """Self-attention and SwiGLU, each behind an RMSNorm and around a residual.

    Parameters are named as in Meta's checkpoints. The feed-forward size is Llama's: two thirds of
    4 D, so that three matrices cost what two did, rounded up to `multiple_of`.

    Weights start normal with variance 1 / fan-in. The 2 `depth` matrices of a model of `depth`
    layers that write to the residual stream start smaller, so that their sum has variance 1.
    """

    def __init__(
        self, dim: int, num_heads: int, multiple_of: int, norm_eps: float, depth: int
    ) -> None:
        super().__init__()
        hidden_dim = multiple_of * -(-int(2 * 4 * dim / 3) // multiple_of)
        self.attention = Attention(dim, num_heads)
        self.feed_forward = FeedForward(dim, hidden_dim)
        self.attention_norm = nn.RMSNorm(dim, norm_eps)
        self.ffn_norm = nn.RMSNorm(dim, norm_eps)
        writers = (self.attention.wo, self.feed_forward.w2)
        for linear in self.modules():
            if isinstance(linear, nn.Linear):
                scale = (2 * depth) ** -0.5 if linear in writers else 1.0
                nn.init.normal_(linear.weight, std=scale * linear.in_features**-0.5)

    def forward(self, hidden: Tensor, rotations: Tensor, past: Past | None = None) -> Tensor:
        """[B, T, D] to [B, T, D]; without `past` the sequences start here.

        Args:
            rotations: cosines and sines of the T positions, broadcastable to [B, T, H, E / 2, 2].
        """
        hidden = hidden + self.attention(self.attention_norm(hidden), rotations, past)
        return hidden + self.feed_forward(self.ffn_norm(hidden))


class Attention(nn.Module):
    """Causal multi-head self-attention with rotary positions."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.head_dim = dim // num_heads
        self.wq = nn.Linear(dim, dim, bias=False)
        self.wk = nn.Linear(dim, dim, bias=False)
        self.wv = nn.Linear(dim, dim, bias=False)
        self.wo = nn.Linear(dim, dim, bias=False)

    def forward(self, hidden: Tensor, rotations: Tensor, past: Past | None) -> Tensor:
        queries = rotate(self.wq(hidden).unflatten(-1, (-1, self.head_dim)), rotations)
        keys = rotate(self.wk(hidden).unflatten(-1, (-1, self.head_dim)), rotations)
        values = self.wv(hidden).unflatten(-1, (-1, self.head_dim))
        visible = None
        if past is not None:
            keys, values = past.extend(keys, values)
            visible = past.visible
        mixed = F.scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=visible,
            is_causal=visible is None,
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


def rotary_table(length: int, head_dim: int, theta: float) -> Tensor:
    """Cosine and sine of every position's angles, float32 [length, E / 2, 2] (Su et al., 2021)."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    return torch.stack((angles.cos(), angles.sin()), dim=-1)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Turns each pair of neighbouring channels of [B, T, H, E] by its position's angle."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rotations.unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).type_as(x)


class KeyValueCache:
    """One layer's keys and values [B, K, H, E], allocated once for the longest row."""

    keys: Tensor
    values: Tensor

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity

    def write(self, keys: Tensor, values: Tensor, positions: Tensor) -> None:
        """Puts [B, T, H, E] at the positions [B, T] of their rows."""
        if not hasattr(self, "keys"):
            # Zeros, as a masked position still enters the weighted sum, with weight 0.
            shape = (keys.shape[0], self.capacity, *keys.shape[2:])
            self.keys = keys.new_zeros(shape)
            self.values = values.new_zeros(shape)
        rows = torch.arange(keys.shape[0], device=keys.device)[:, None]
        self.keys[rows, positions] = keys
        self.values[rows, positions] = values

    def select(self, rows: Tensor) -> None:
        self.keys = self.keys.index_select(0, rows)
        self.values = self.values.index_select(0, rows)


class DecoderState(DecodingState):
    """What a `Decoder` remembers while it decodes.

    Rows stand at positions of their own: all start at 0 whatever the length of their prompts.

    Args:
        lengths: long [B], tokens that each row has read.
        past: a cache per layer.
    """

    def __init__(self, lengths: Tensor, past: list[KeyValueCache]) -> None:
        self.lengths = lengths
        self.past = past
        self.width = 0
        """Cache positions in use by the longest row."""

    def select(self, rows: Tensor) -> None:
        self.lengths = self.lengths[rows]
        for cache in self.past:
            cache.select(rows)


@dataclass
class Past:
    """One layer's cache as one forward uses it.

    Attributes:
        positions: long [B, T], where the new tokens stand.
        visible: bool [B, 1, T, width], which of the first `width` positions each token sees.
    """

    cache: KeyValueCache
    positions: Tensor
    visible: Tensor

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the new keys and values [B, T, H, E]; returns all [B, width, H, E]."""
        self.cache.write(keys, values, self.positions)
        width = self.visible.shape[-1]
        return self.cache.keys[:, :width], self.cache.values[:, :width]
