"""T5 (Raffel et al., 2020), the encoder-decoder of the number token loss paper.

Weights and layers are transformers' own, but this module calls the blocks directly. It builds each
attention bias once per forward and passes it to all blocks, while transformers' stacks build masks
for every call and zero biases for every cross-attention.

Shapes: B sequences, S input tokens, T target positions, H attention heads, D hidden size,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AutoConfig, T5Config, T5ForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.models.t5.modeling_t5 import T5Stack

from beyond_ce.batches.batch import (
    Batch,
    Numbers,
    encoder_decoder_batch,
    pad,
    token_mask,
    value_batch,
)
from beyond_ce.errors import UsageError
from beyond_ce.models.base import DecodingState, LanguageModel, last_state, mean_state
from beyond_ce.models.heads import Head, RegressionHead
from beyond_ce.settings import DROPOUT, LAYERS, SIZE, SOURCE, optional, takes


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float,
    position_bias: Tensor,
    **_: Any,
) -> tuple[Tensor, None]:
    """T5's attention: no scaling, and a bias that includes the mask.

    torch's fused CPU kernels do not support a bias with a gradient and fall back to code that is
    slower than the plain formula.
    """
    if query.is_cpu:
        # The caller passes a dropout rate of 0 outside training.
        weights = F.dropout((query @ key.mT + position_bias).softmax(dim=-1), dropout)
        mixed = weights @ value
    else:
        bias = position_bias.to(query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, bias, dropout, scale=1.0)
    return mixed.transpose(1, 2), None


ATTENTION = "beyond_ce_t5"
AttentionInterface.register(ATTENTION, attention)


class T5(LanguageModel):
    """A T5 with any head; the `lm` head shares its unembedding with the embedding (v1.0) or keeps
    the checkpoint's own (v1.1, Flan).

    Prompts get an EOS at their end, as in T5's pretraining; decoding starts from the padding token.
    With a head that predicts a value there is no decoder, and the head reads the mean of the
    encoder's states. For a head with `reads_decoder`, the decoder reads the prompt, shifted by one
    as an answer is, and the head its state at the prompt's end.

    Args:
        vocab_size, pad_id, eos_id: the tokenizer's. If the tokenizer has more tokens than a
            pretrained embedding has rows, rows are added.
        head: builds the head from `dim` and `vocab_size`.
        d_model, d_ff, d_kv, num_heads, num_layers: dimensions for random initialisation;
            `num_layers` is per stack.
        dropout: rate everywhere in the trunk.
        pretrained: a folder or a name on the Hugging Face hub to load weights from, with their own
            dimensions.

    Raises:
        UsageError: `pretrained` cannot be loaded or is not a T5.
    """

    needs_prompt = False

    @takes(
        "model",
        d_model=SIZE,
        d_ff=SIZE,
        d_kv=SIZE,
        num_heads=SIZE,
        num_layers=LAYERS,
        dropout=DROPOUT,
        pretrained=optional(SOURCE),
    )
    def __init__(
        self,
        vocab_size: int,
        pad_id: int,
        eos_id: int,
        head: Callable[..., Head],
        d_model: int,
        d_ff: int,
        d_kv: int,
        num_heads: int,
        num_layers: int,
        dropout: float,
        pretrained: str | None = None,
    ) -> None:
        super().__init__(vocab_size, pad_id, eos_id)
        if pretrained is None:
            config = T5Config(
                vocab_size=vocab_size,
                d_model=d_model,
                d_ff=d_ff,
                d_kv=d_kv,
                num_heads=num_heads,
                num_layers=num_layers,
                dropout_rate=dropout,
            )
            model = T5ForConditionalGeneration(config)
        else:
            model = _load(pretrained, vocab_size, dropout)
        model.set_attn_implementation(ATTENTION)
        config = model.config
        self.embedding = model.shared
        self.encoder = model.encoder
        self.decoder = model.decoder
        for stack in (model.encoder, model.decoder):
            # Both stacks also hold the shared embedding; a checkpoint needs only one copy.
            stack.set_input_embeddings(None)
        # T5 v1.0 scales its hidden states before the tied unembedding, v1.1 does not.
        self.hidden_scale = config.d_model**-0.5 if config.scale_decoder_outputs else 1.0
        self.head = head(dim=config.d_model, vocab_size=config.vocab_size)
        self.head.share(model.lm_head.weight)
        if isinstance(self.head, RegressionHead) and not self.head.reads_decoder:
            del self.decoder

    def make_batch(
        self,
        prompts: list[list[int]],
        answers: list[list[int]],
        numbers: Numbers | None = None,
    ) -> Batch:
        rows = self._with_eos(prompts)
        if isinstance(self.head, RegressionHead):
            return value_batch(rows, self.head.targets(numbers), self.pad_id)
        return encoder_decoder_batch(rows, answers, self.pad_id, self.pad_id)

    def trunk(self, batch: Batch) -> Tensor:
        memory, memory_bias = self._encode(batch.input_ids, batch.attention_mask)
        inputs = batch.decoder_input_ids
        if isinstance(self.head, RegressionHead):
            if not self.head.reads_decoder:
                return mean_state(memory, batch.attention_mask)
            start = torch.full_like(batch.input_ids[:, :1], self.pad_id)
            inputs = torch.cat((start, batch.input_ids[:, :-1]), dim=1)
        if inputs is None:
            raise ValueError("T5 needs an encoder-decoder batch: build it with make_batch")
        bias = _position_bias(self.decoder, inputs.shape[1])
        bias = bias + _causal_bias(bias)
        if isinstance(self.head, RegressionHead):  # its map learns its own scale
            hidden = self._run(self.decoder, inputs, bias, memory, memory_bias)
            return last_state(hidden, batch.attention_mask)
        return self._decode(inputs, bias, memory, memory_bias)

    def prefill(self, prompts: list[list[int]], max_new_tokens: int) -> tuple[T5State, Tensor]:
        device = self.embedding.weight.device
        rows = self._with_eos(prompts)
        memory, memory_bias = self._encode(
            pad(rows, self.pad_id).to(device), token_mask(rows).to(device)
        )
        bias = _position_bias(self.decoder, max_new_tokens)
        state = T5State(bias, memory, memory_bias)
        start = torch.full((len(prompts),), self.pad_id, device=device)
        return state, self.step(state, start)

    def step(self, state: DecodingState, tokens: Tensor) -> Tensor:
        assert isinstance(state, T5State)
        t = state.length
        bias = state.bias[:, :, t : t + 1, : t + 1]
        hidden = self._decode(tokens[:, None], bias, state.memory, state.memory_bias, state.cache)
        state.length += 1
        return self.next_token_logits(hidden[:, 0])

    def _with_eos(self, prompts: list[list[int]]) -> list[list[int]]:
        return [[*prompt, self.eos_id] for prompt in prompts]

    def _encode(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's hidden states [B, S, D] and the bias [B, 1, 1, S] that masks padding."""
        bias = _position_bias(self.encoder, input_ids.shape[1])
        padding_bias = bias.new_zeros(attention_mask.shape)[:, None, None]
        padding_bias = padding_bias.masked_fill(
            ~attention_mask[:, None, None], torch.finfo(bias.dtype).min
        )
        hidden = self._run(self.encoder, input_ids, bias + padding_bias)
        return hidden, padding_bias

    def _decode(
        self,
        input_ids: Tensor,
        bias: Tensor,
        memory: Tensor,
        memory_bias: Tensor,
        cache: EncoderDecoderCache | None = None,
    ) -> Tensor:
        """The decoder's hidden states [B, T, D], scaled for the unembedding."""
        hidden = self._run(self.decoder, input_ids, bias, memory, memory_bias, cache)
        return hidden * self.hidden_scale

    def _run(
        self,
        stack: T5Stack,
        input_ids: Tensor,
        bias: Tensor,
        memory: Tensor | None = None,
        memory_bias: Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> Tensor:
        """Runs one stack on [B, T] tokens.

        A bias includes both relative positions and mask. Blocks add it to their attention scores as
        `position_bias`, so they need no mask of their own.
        """
        hidden = stack.dropout(self.embedding(input_ids))
        for block in stack.block:
            hidden, _, _ = block(
                hidden,
                position_bias=bias,
                encoder_hidden_states=memory,
                encoder_decoder_position_bias=memory_bias,
                past_key_values=cache,
            )
        return stack.dropout(stack.final_layer_norm(hidden))


class T5State(DecodingState):
    """T5's decoding state.

    Args:
        bias: the decoder's relative position bias [1, H, T, T] for all T new tokens.
        memory: the encoder's hidden states [B, S, D].
        memory_bias: [B, 1, 1, S], masks padding.
    """

    def __init__(self, bias: Tensor, memory: Tensor, memory_bias: Tensor) -> None:
        self.bias = bias
        self.memory = memory
        self.memory_bias = memory_bias
        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self.length = 0
        """Number of tokens that the decoder has read."""

    def select(self, rows: Tensor) -> None:
        self.memory = self.memory.index_select(0, rows)
        self.memory_bias = self.memory_bias.index_select(0, rows)
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]


def _position_bias(stack: T5Stack, length: int) -> Tensor:
    """Relative position bias [1, H, length, length], which T5 keeps in its first layer only."""
    first_block: Any = stack.block[0]
    return first_block.layer[0].SelfAttention.compute_bias(length, length)


def _causal_bias(like: Tensor) -> Tensor:
    """[T, T]: a bias that gives future positions no weight."""
    return like.new_full(like.shape[-2:], torch.finfo(like.dtype).min).triu(1)


def _load(pretrained: str, vocab_size: int, dropout: float) -> T5ForConditionalGeneration:
    # transformers raises OSError, ValueError and the file formats' own errors. For the user they
    # all mean that the weights cannot be loaded.
    try:
        config = AutoConfig.from_pretrained(pretrained, trust_remote_code=False)
        if config.model_type == "t5":
            config.dropout_rate = dropout
            model = T5ForConditionalGeneration.from_pretrained(
                pretrained, config=config, dtype=torch.float32, trust_remote_code=False
            )
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"model.pretrained={pretrained} cannot be loaded; give a folder with a T5 or, "
            f"with network, its name on the Hugging Face hub ({reason})"
        ) from error
    if config.model_type != "t5":
        raise UsageError(
            f"model.pretrained={pretrained} is a {config.model_type} model, not a T5: "
            "give a T5's folder or name"
        )
    if vocab_size > config.vocab_size:
        model.resize_token_embeddings(vocab_size)
    return model.train()  # transformers loads models in evaluation mode
