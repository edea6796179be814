"""Any decoder-only model of transformers: GPT-2, Granite, Llama, Qwen and their like.

The trunk is the library's base model, fed with embeddings; its cache serves decoding.

Shapes: B sequences, T positions, K positions in the cache, D hidden size, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import ModelOutput

from beyond_ce.batches.batch import Batch, pad, token_mask
from beyond_ce.errors import UsageError, one_line
from beyond_ce.models.base import CausalModel, DecodingState, last_state
from beyond_ce.models.evaluation_mode import evaluating
from beyond_ce.models.heads import Head


class CausalLM(CausalModel):
    """A decoder-only model of transformers with any head; the `lm` head takes the model's own
    unembedding, which stays tied to the embedding if it was.

    A factor between the unembedding and the logits (Granite, Cohere) is in the hidden states.

    Args:
        vocab_size, pad_id, eos_id: the tokenizer's. A tokenizer with more tokens than a pretrained
            embedding has rows adds rows.
        head: builds the head from `dim` and `vocab_size`.
        config: `model_type` and whatever keys the configuration class of that type has, for random
            initialisation. Without effect if `pretrained` is given.
        pretrained: a folder or a name on the Hugging Face hub to take weights from. It brings its
            own configuration, dropout included.

    Raises:
        UsageError: `config` makes no model; `pretrained` cannot be loaded or has another
            vocabulary than the tokenizer; the architecture is not decoder-only, has no key-value
            cache, or does more than scale `hidden @ unembedding.T` to get its logits.
    """

    def __init__(
        self,
        vocab_size: int,
        pad_id: int,
        eos_id: int,
        head: Callable[..., Head],
        config: Mapping[str, Any],
        pretrained: str | None = None,
    ) -> None:
        super().__init__(vocab_size, pad_id, eos_id)
        if pretrained is None:
            model = _build(config, vocab_size, eos_id)
        else:
            model = _load(pretrained, vocab_size)
        self.hidden_scale = _logit_scale(model)
        embedding: Any = model.get_input_embeddings()
        unembedding: Any = model.get_output_embeddings().weight
        self.max_length: int | None = getattr(model.config, "max_position_embeddings", None)
        self.embedding = embedding
        self.decoder: Any = model.get_decoder()
        # The decoder is fed with embeddings; one copy of the weight is enough in a checkpoint.
        self.decoder.set_input_embeddings(None)
        # Models with relative positions read them off the attention mask.
        self.reads_positions = "position_ids" in _arguments(model)
        self.head = head(dim=unembedding.shape[1], vocab_size=unembedding.shape[0])
        self.head.share(unembedding)

    def add_encodings(self, encodings: Tensor) -> None:
        if type(self.embedding) is not nn.Embedding:
            raise UsageError(
                f"{type(self.decoder).__name__} does more than look up its embedding, to which "
                "no number encodings can be added: choose another model or tokenizer"
            )
        super().add_encodings(encodings)

    def trunk(self, batch: Batch) -> Tensor:
        # Padding stands on the right, where causal attention never looks back from: no mask, so
        # that the fastest kernels can be used.
        hidden = self._run(self.embedding(batch.input_ids), use_cache=False)
        return last_state(hidden, batch.attention_mask) if self.head.target == "value" else hidden

    def prefill(
        self, prompts: list[list[int]], max_new_tokens: int
    ) -> tuple[CausalLMState, Tensor]:
        if not all(prompts):
            raise UsageError("a decoder-only model cannot go on from an empty prompt")
        device = self.embedding.weight.device
        # Padding on the left, as the library's cache appends to all rows at the same place.
        mirrored = [prompt[::-1] for prompt in prompts]
        tokens = pad(mirrored, self.pad_id).flip(1).to(device)
        self.check_length(tokens.shape[1] + max_new_tokens - 1)  # the last token is never read
        state = CausalLMState(
            mask=token_mask(prompts).flip(1).to(device),
            cache=DynamicCache(config=self.decoder.config),
        )
        return state, self._extend(state, tokens)

    def step(self, state: DecodingState, tokens: Tensor) -> Tensor:
        assert isinstance(state, CausalLMState)
        state.mask = F.pad(state.mask, (0, 1), value=True)
        return self._extend(state, tokens[:, None])

    def _extend(self, state: CausalLMState, tokens: Tensor) -> Tensor:
        """Logits [B, V] after tokens [B, T], the last T columns of the state's mask."""
        positions = {}
        if self.reads_positions:
            counts = state.mask.cumsum(dim=1)[:, -tokens.shape[1] :]
            positions["position_ids"] = (counts - 1).clamp(min=0)
        hidden = self._run(
            self.embedding(tokens),
            attention_mask=state.mask,
            past_key_values=state.cache,
            use_cache=True,
            **positions,
        )
        return self.next_token_logits(hidden[:, -1])

    def _run(self, embeddings: Tensor, **kwargs: Any) -> Tensor:
        """Hidden states [B, T, D] after the final norm, scaled as the unembedding needs them."""
        output = self.decoder(inputs_embeds=embeddings, **kwargs)
        return output.last_hidden_state * self.hidden_scale

    def check_length(self, length: int) -> None:
        if self.max_length is not None and length > self.max_length:
            raise UsageError(
                f"a sequence of {length} tokens, prompt and answer together, exceeds the model's "
                f"context of {self.max_length}: shorten the data or choose another model"
            )


class CausalLMState(DecodingState):
    """What a `CausalLM` remembers while it decodes.

    Args:
        mask: bool [B, K], True on the tokens read so far and False on the padding before them.
        cache: the library's, one layer after the other.
    """

    def __init__(self, mask: Tensor, cache: DynamicCache) -> None:
        self.mask = mask
        self.cache = cache

    def select(self, rows: Tensor) -> None:
        self.mask = self.mask[rows]
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]


def _build(config: Mapping[str, Any], vocab_size: int, eos_id: int) -> PreTrainedModel:
    """A model with random weights."""
    keys = dict(config)
    kind = keys.pop("model_type", None)
    if kind is None:
        raise UsageError(
            "model.config has no model_type: set model.config.model_type=gpt2, or "
            "model.pretrained to a folder or a name on the Hugging Face hub"
        )
    try:
        known = AutoConfig.for_model(kind)
    except ValueError as error:
        raise UsageError(
            f"model.config.model_type={kind}: transformers has no such model"
        ) from error
    unknown = [key for key in keys if not hasattr(known, key)]
    if unknown:
        raise UsageError(f"model.config.{unknown[0]}: a {kind} model has no such setting")
    # No padding token: an embedding that knows one does not train its row, and it may be the
    # end token's. What a type has as special tokens by default is in another vocabulary.
    special = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": eos_id}
    try:
        full = AutoConfig.for_model(kind, **{**keys, **special, "vocab_size": vocab_size})
        _check_type(full, f"model.config.model_type={kind}")
        return AutoModelForCausalLM.from_config(full, dtype=torch.float32)
    except UsageError:
        raise
    except Exception as error:  # the library checks values in its own ways, often by crashing
        reason = one_line(error)
        raise UsageError(f"model.config makes no {kind} model: {reason}") from error


def _load(pretrained: str, vocab_size: int) -> PreTrainedModel:
    """A model with the weights of a folder or a name, wide enough for the tokenizer."""
    name = f"model.pretrained={pretrained}"
    # transformers raises OSError, ValueError and the file formats' own errors for what is one
    # thing to the user: these weights cannot be had.
    try:
        config = AutoConfig.from_pretrained(pretrained)
        _check_type(config, name)
        model = AutoModelForCausalLM.from_pretrained(pretrained, config=config, dtype=torch.float32)
    except UsageError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"{name} cannot be loaded; give a folder with a decoder-only model or, with network, "
            f"its name on the Hugging Face hub ({reason})"
        ) from error
    embedding: Any = model.get_input_embeddings()
    rows = embedding.num_embeddings
    # Embeddings are padded by a few hundred rows at most; far more means other tokens.
    if vocab_size < rows / 2:
        raise UsageError(
            f"{name} has a vocabulary of {rows} tokens, the tokenizer {vocab_size}: "
            f"choose tokenizer=pretrained tokenizer.model={pretrained}"
        )
    if vocab_size > rows:
        model.resize_token_embeddings(vocab_size)
    return model.train()  # as any new module; it was loaded for inference, without dropout


def _check_type(config: PreTrainedConfig, name: str) -> None:
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        raise UsageError(
            f"{name} is a {config.model_type} model, not a decoder-only one: give a causal "
            "language model, or choose another model class (model=t5_base for T5)"
        )


def _arguments(model: PreTrainedModel) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model.get_decoder().forward).parameters


@torch.no_grad()
def _logit_scale(model: PreTrainedModel) -> float:
    """The factor c with logits = c * hidden @ unembedding.T, measured on the model's own forward.

    The hidden states of two tokens are replaced by large random ones of two sizes, at which a
    bound on the logits or a norm before the unembedding would show.

    Raises:
        UsageError: there is no such factor.
    """
    kind = model.config.model_type
    refusal = f"{kind} models do not fit model=causal_lm, as "
    if "past_key_values" not in _arguments(model):
        raise UsageError(f"{refusal}they have no key-value cache: choose another model")
    layer: Any = model.get_output_embeddings()
    if type(layer) is not nn.Linear:
        raise UsageError(f"{refusal}their unembedding is no single matrix: choose another model")
    if layer.bias is not None:
        raise UsageError(f"{refusal}their unembedding has a bias: choose another model")
    draw = torch.Generator().manual_seed(0)  # leaves the run's random state as it is
    hidden = torch.randn(1, 2, layer.weight.shape[1], generator=draw)
    hidden *= 1000 / F.linear(hidden, layer.weight).std()
    hidden[:, 0] /= 10
    plain = F.linear(hidden, layer.weight)

    def replace(module: nn.Module, inputs: Any, output: ModelOutput) -> ModelOutput:
        output["last_hidden_state"] = hidden
        return output

    handle = model.get_decoder().register_forward_hook(replace)
    try:
        with evaluating(model):
            logits = model(torch.zeros(1, 2, dtype=torch.long), use_cache=False).logits
    except Exception as error:
        reason = one_line(error)
        raise UsageError(f"model.config makes no {kind} model that runs: {reason}") from error
    finally:
        handle.remove()
    scale = float((logits.double() * plain).sum() / plain.double().square().sum())
    if not torch.allclose(logits, scale * plain, rtol=1e-4, atol=1e-4 * abs(scale) * 1000):
        raise UsageError(
            f"{refusal}their logits are no multiple of hidden @ unembedding.T: choose another model"
        )
    return scale
