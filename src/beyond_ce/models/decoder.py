"""A Llama-like decoder-only transformer with any head.

The layers are in `layers`.

Shapes: B sequences, T positions, D hidden size, V vocabulary, n heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from beyond_ce.batches.batch import Batch, pad
from beyond_ce.errors import UsageError
from beyond_ce.models.base import CausalModel, DecodingState, last_state
from beyond_ce.models.decoder_state import DecoderState
from beyond_ce.models.decoding import forget_decoding_weights
from beyond_ce.models.heads import (
    Head,
    LMHead,
    MultiTokenHead,
    RecurrentMultiTokenHead,
    RegressionHead,
)
from beyond_ce.models.layers import DecoderLayer, Rotary
from beyond_ce.models.rope_scaling import check_scaling
from beyond_ce.models.shared_prefix import DecoderPrefix
from beyond_ce.settings import FLAG, LAYERS, SIZE, SOURCE, number, optional, takes, whole


class Decoder(CausalModel):
    """A Llama-like trunk with any head.

    Args:
        vocab_size, pad_id, eos_id: the tokenizer's.
        head: builds the head from `dim` and `vocab_size`.
        dim: hidden size D, a multiple of 2 H.
        num_layers: layers of the trunk and the head's blocks together, so a head that takes layers
            does not change the number of parameters (see `MultiTokenHead`).
        num_heads: attention heads.
        max_length: longest sequence in tokens, prompt and answer together.
        multiple_of: the feed-forward size is rounded up to a multiple of this.
        norm_eps: added to the mean square in RMSNorm.
        rope_theta: base of the rotary wavelengths.
        checkpoint_activations: in training, keep one state per trunk layer and recompute the rest
            in the backward pass: less memory, a third more time. The head's blocks are not
            recomputed, because their activations are freed head by head.
        pretrained: a folder with a checkpoint of this size to start from, or its name on the
            Hugging Face hub. The constructor only stores it and initialises randomly; `build_model`
            then calls `checkpoints.start_from`.
        num_kv_heads: heads of keys and values, a divisor of `num_heads`: each serves as many heads
            of queries (grouped-query attention, as in Llama 3). None for `num_heads`.
        rope_scaling: changes the rotary wavelengths for longer contexts: `rope_type` and its
            numbers, as in transformers (see `models.rope_scaling`). None for no change.
        qkv_bias: whether queries, keys and values have biases, as in Qwen2.
        tie_embeddings: whether the next token's unembedding is the embedding.

    The last four are of models from elsewhere. They are not in `conf/`: add them on the command
    line, such as `+model.num_kv_heads=2`.

    Raises:
        UsageError: `dim` does not divide into heads of an even size, `num_heads` not into groups,
            the scaling is unknown, or the head takes more layers than there are.
    """

    provides_layers = True
    drafts = True
    max_length: int

    @takes(
        "model",
        dim=SIZE,
        num_layers=LAYERS,
        num_heads=SIZE,
        max_length=whole(1, 2**24),
        multiple_of=SIZE,
        norm_eps=number(above=0, high=1),
        rope_theta=number(1, 1e12),
        checkpoint_activations=FLAG,
        pretrained=optional(SOURCE),
    )
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
        checkpoint_activations: bool = False,
        pretrained: str | None = None,
        num_kv_heads: int | None = None,
        rope_scaling: Mapping[str, Any] | None = None,
        qkv_bias: bool = False,
        tie_embeddings: bool = False,
    ) -> None:
        super().__init__(vocab_size, pad_id, eos_id)
        if dim % (2 * num_heads):
            raise UsageError(
                f"model.dim={dim} does not divide into {num_heads} heads of an even size: "
                f"make it a multiple of {2 * num_heads}"
            )
        groups = num_heads if num_kv_heads is None else num_kv_heads
        if type(groups) is not int or groups < 1 or num_heads % groups:
            raise UsageError(
                f"model.num_kv_heads={num_kv_heads} does not divide the {num_heads} heads: "
                "make it a divisor"
            )
        self.max_length = max_length
        self.pretrained = pretrained
        self.checkpoint_activations = checkpoint_activations
        self.settings: dict[str, Any] = {
            "dim": dim,
            "num_heads": num_heads,
            "max_length": max_length,
            "multiple_of": multiple_of,
            "norm_eps": norm_eps,
            "rope_theta": rope_theta,
            "checkpoint_activations": checkpoint_activations,
            "num_kv_heads": groups,
            "rope_scaling": check_scaling(rope_scaling),
            "qkv_bias": bool(qkv_bias),
            "tie_embeddings": bool(tie_embeddings),
        }
        scaling = self.settings["rope_scaling"]
        self.rotary = Rotary(max_length, dim // num_heads, rope_theta, scaling)
        layer = partial(
            DecoderLayer, dim, num_heads, multiple_of, norm_eps, num_layers, self.rotary,
            groups, qkv_bias,
        )  # fmt: skip
        self.embedding = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList(layer() for _ in range(num_layers))
        self.norm: nn.Module = nn.RMSNorm(dim, norm_eps)
        self.head = head(dim=dim, vocab_size=vocab_size)
        if isinstance(self.head, MultiTokenHead):
            self.layers.extend(layer() for _ in range(self.head.extra_layers))
            self.norm = self.head.take_layers(self.layers, self.norm)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        if tie_embeddings:
            self.head.share(cast(nn.Parameter, self.embedding.weight))

    def trunk(self, batch: Batch) -> Tensor:
        # Padding is on the right, where causal attention never sees it.
        hidden = self._run_layers(batch.input_ids)
        if isinstance(self.head, RegressionHead):
            hidden = last_state(hidden, batch.attention_mask)
        return self.norm(hidden)

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, n, V] of the n tokens after each of `tokens` (long [B, T]).

        A head that reads the tokens in between goes on with its own most probable ones where
        `tokens` end.
        """
        hidden = self.norm(self._run_layers(tokens))
        if isinstance(self.head, RecurrentMultiTokenHead):
            return self.head.logits_with_drafts(hidden, tokens, self.embedding, self.vocab_size)
        return torch.stack([self.head.logits(hidden, i) for i in range(self.head.n)], dim=2)

    def next_token_model(self) -> Decoder:
        """The ordinary model without heads 2 to n; it shares its weights with this one.

        Raises:
            UsageError: the head does not predict tokens, or predicts the next one through linear
                maps.
        """
        if isinstance(self.head, LMHead):
            return self
        if not isinstance(self.head, MultiTokenHead):
            raise UsageError(f"{type(self.head).__name__} predicts no next token")
        blocks = [self.head.blocks[i] for i in self.head.path(0)]
        if any(isinstance(block, nn.Linear) for block in blocks):
            raise UsageError(
                "the next token's head has linear blocks, which an ordinary model does not have: "
                "choose head/block=transformer, or convert with --to native"
            )
        layers = [*self.layers, *(block for block in blocks if isinstance(block, DecoderLayer))]
        with torch.device("meta"):
            model = Decoder(
                self.vocab_size,
                self.pad_id,
                self.eos_id,
                LMHead,
                num_layers=len(layers),
                **self.settings,
            )
        model.rotary = self.rotary
        model.embedding = self.embedding
        model.layers = nn.ModuleList(layers)
        model.norm = self.head.norm
        model.head.share(self.head.unembedding())
        return model.train(self.training)

    def train(self, mode: bool = True) -> Decoder:
        if mode:
            forget_decoding_weights(self)
        super().train(mode)
        return self

    def prefill(
        self, prompts: list[list[int]], max_new_tokens: int, heads: int = 1
    ) -> tuple[DecoderState, Tensor]:
        """Reads the prompts; returns the state and the logits [B, V] of the first new tokens.

        Args:
            heads: number of heads to decode with (see `decode_self_speculatively`).
        """
        if not all(prompts):
            raise UsageError(
                "a decoder-only model cannot continue an empty prompt: give at least one token"
            )
        longest = max(map(len, prompts))
        self.check_length(longest + max_new_tokens - 1)  # the last new token is never read
        # Finished rows may have to read some more tokens along with the others.
        state = DecoderState(self, len(prompts), longest + max_new_tokens + heads - 2, heads)
        features = state.read(pad(prompts, self.pad_id).to(self.embedding.weight.device))
        # Padding in the cache of a shorter row is overwritten before it is attended to.
        state.lengths = [len(prompt) for prompt in prompts]
        last = torch.tensor(state.lengths, device=features.device) - 1
        features = features[torch.arange(len(prompts), device=features.device), last]
        return state, state.logits(features[:, None])[:, 0]

    def step(self, state: DecodingState, tokens: Tensor) -> Tensor:
        assert isinstance(state, DecoderState)
        features = state.read(tokens[:, None])
        state.lengths = [length + 1 for length in state.lengths]
        return state.logits(features)[:, 0]

    def _run_layers(self, tokens: Tensor) -> Tensor:
        """The trunk's states [B, T, D] before the final norm, without a cache; beside them the
        tokens' embeddings, [B, T, 2 D], for a head that reads them."""
        embedded = hidden = self.embedding(tokens)
        recompute = self.checkpoint_activations and self.training and torch.is_grad_enabled()
        for layer in self.layers:
            if recompute:  # layers draw no random numbers, so no random state must be restored
                hidden = checkpoint(layer, hidden, use_reentrant=False, preserve_rng_state=False)
            else:
                hidden = layer(hidden)
        return torch.cat([hidden, embedded], dim=-1) if self.head.reads_tokens else hidden

    def shared_prefix(self, offset: int = 0) -> DecoderPrefix:
        return DecoderPrefix(self, offset)

    def check_length(self, length: int) -> None:
        if length > self.max_length:
            raise UsageError(
                f"a sequence of {length} tokens, prompt and answer together, exceeds the model's "
                f"context of {self.max_length}: raise model.max_length or shorten the data"
            )
