"""Any decoder-only model in transformers, such as GPT-2, Granite, Llama or Qwen.

The trunk is the library's base model, which gets embeddings as input; decoding uses its cache.

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
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.modeling_outputs import ModelOutput
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from beyond_ce.batches.batch import Batch, pad, token_mask
from beyond_ce.errors import UsageError, one_line
from beyond_ce.models.base import CausalModel, DecodingState, last_state
from beyond_ce.models.evaluation_mode import evaluating
from beyond_ce.models.heads import Head
from beyond_ce.models.shared_prefix import CausalLMPrefix
from beyond_ce.models.transformers_settings import check_numbers
from beyond_ce.settings import SOURCE, optional, takes


class CausalLM(CausalModel):
    """A decoder-only model in transformers with any head; the `lm` head takes the model's own
    unembedding, which stays tied to the embedding if it was.

    If the model scales its logits (Granite, Cohere), we apply the factor to the hidden states.

    Args:
        vocab_size, pad_id, eos_id: the tokenizer's. If the tokenizer has more tokens than a
            pretrained embedding has rows, rows are added.
        head: builds the head from `dim` and `vocab_size`.
        config: `model_type` and any keys of that type's configuration class, for random
            initialisation. Ignored if `pretrained` is given.
        pretrained: a folder or a name on the Hugging Face hub to load weights from, with their
            own configuration, dropout included.

    Raises:
        UsageError: `config` does not give a model; `pretrained` cannot be loaded or has another
            vocabulary than the tokenizer; the architecture is not decoder-only, has no key-value
            cache, its logits are not a multiple of `hidden @ unembedding.T`, it caps attention
            scores, reads token ids in its layers, or lets tokens see later ones.
    """

    @takes(
        "model",
        config=check_numbers,
        pretrained=optional(SOURCE),
    )
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
        self.hidden_scale = 1.0
        if model.device.type != "meta":  # shapes alone, of a check of the settings, cannot run
            self.hidden_scale = _logit_scale(model)
            _check_hidden(model)
        embedding: Any = model.get_input_embeddings()
        unembedding: Any = model.get_output_embeddings().weight
        self.max_length: int | None = getattr(model.config, "max_position_embeddings", None)
        self.embedding = embedding
        self.decoder: Any = model.get_decoder()
        # The decoder gets embeddings as input; a checkpoint needs only one copy of the weight.
        self.decoder.set_input_embeddings(None)
        # Models with relative positions take them from the attention mask instead.
        self.reads_positions = "position_ids" in _arguments(model)
        self.head = head(dim=unembedding.shape[1], vocab_size=unembedding.shape[0])
        self.head.share(unembedding)

    def add_encodings(self, encodings: Tensor) -> None:
        if type(self.embedding) is not nn.Embedding:
            raise UsageError(
                f"{type(self.decoder).__name__} transforms its embeddings, so number encodings "
                "cannot be added to them: choose another model or tokenizer"
            )
        super().add_encodings(encodings)

    def trunk(self, batch: Batch) -> Tensor:
        # Padding is on the right, where causal attention never sees it. So there is no mask, and
        # the fastest kernels can be used.
        hidden = self._run(self.embedding(batch.input_ids), use_cache=False)
        return last_state(hidden, batch.attention_mask) if self.head.target == "value" else hidden

    def prefill(
        self, prompts: list[list[int]], max_new_tokens: int
    ) -> tuple[CausalLMState, Tensor]:
        if not all(prompts):
            raise UsageError(
                "a decoder-only model cannot continue an empty prompt: give at least one token"
            )
        device = self.embedding.weight.device
        # Pad on the left, because the library's cache appends to all rows at the same position.
        reversed_prompts = [prompt[::-1] for prompt in prompts]
        tokens = pad(reversed_prompts, self.pad_id).flip(1).to(device)
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

    def shared_prefix(self, offset: int = 0) -> CausalLMPrefix | None:
        cache = DynamicCache(config=self.decoder.config)
        # In a sliding window, and where positions are places in the cache, gaps would count.
        if not self.reads_positions or any(type(each) is not DynamicLayer for each in cache.layers):
            return None
        return CausalLMPrefix(self, cache, offset)

    def _extend(self, state: CausalLMState, tokens: Tensor) -> Tensor:
        """Reads tokens [B, T], which the state's mask already includes; returns logits [B, V]."""
        return self.next_token_logits(self.extend(state.mask, state.cache, tokens)[:, -1])

    def extend(self, mask: Tensor | None, cache: DynamicCache, tokens: Tensor) -> Tensor:
        """Reads tokens [B, T] after those in the cache; returns their states [B, T, D].

        Args:
            mask: bool [B, K], which of the cache's places and of `tokens`, the last T of them, hold
                tokens; None for all, of an empty cache.
        """
        positions = {}
        if self.reads_positions and mask is not None:
            counts = mask.cumsum(dim=1)[:, -tokens.shape[1] :]
            positions["position_ids"] = (counts - 1).clamp(min=0)
        return self._run(
            self.embedding(tokens),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **positions,
        )

    def _run(self, embeddings: Tensor, **kwargs: Any) -> Tensor:
        """Hidden states [B, T, D] after the final norm, with the model's logit scale applied."""
        output = self.decoder(inputs_embeds=embeddings, **kwargs)
        return output.last_hidden_state * self.hidden_scale

    def check_length(self, length: int) -> None:
        if self.max_length is not None and length > self.max_length:
            raise UsageError(
                f"a sequence of {length} tokens, prompt and answer together, exceeds the model's "
                f"context of {self.max_length}: shorten the data or choose another model"
            )


class CausalLMState(DecodingState):
    """The decoding state of a `CausalLM`.

    Args:
        mask: bool [B, K], True on the tokens read so far and False on the padding before them.
        cache: the library's key-value cache of all layers.
    """

    def __init__(self, mask: Tensor, cache: DynamicCache) -> None:
        self.mask = mask
        self.cache = cache

    def select(self, rows: Tensor) -> None:
        self.mask = self.mask[rows]
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]


def _build(config: Mapping[str, Any], vocab_size: int, eos_id: int) -> PreTrainedModel:
    """A model with random weights."""
    settings = dict(config)
    model_type = settings.pop("model_type", None)
    if model_type is None:
        raise UsageError(
            "model.config has no model_type: set model.config.model_type=gpt2, or "
            "model.pretrained to a folder or a name on the Hugging Face hub"
        )
    try:
        defaults = AutoConfig.for_model(model_type)
    except ValueError as error:
        raise UsageError(
            f"model.config.model_type={model_type}: transformers has no such model"
        ) from error
    unknown = [key for key in settings if not _has(defaults, key)]
    if unknown:
        raise UsageError(f"model.config.{unknown[0]}: a {model_type} model has no such setting")
    # No padding token: an embedding does not train the row of its padding token, which may also be
    # the end token. A type's default special tokens belong to another vocabulary.
    special = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": eos_id}
    sizes = {"vocab_size": vocab_size}
    try:
        full_config = AutoConfig.for_model(model_type, **{**settings, **special, **sizes})
        _check_type(full_config, f"model.config.model_type={model_type}")
        return AutoModelForCausalLM.from_config(
            full_config, dtype=torch.float32, trust_remote_code=False
        )
    except UsageError:
        raise
    except Exception as error:  # the library often crashes on wrong values instead of checking them
        reason = one_line(error)
        raise UsageError(f"model.config does not give a {model_type} model: {reason}") from error


def _load(pretrained: str, vocab_size: int) -> PreTrainedModel:
    """A model with pretrained weights, with enough embedding rows for the tokenizer."""
    name = f"model.pretrained={pretrained}"
    # transformers raises OSError, ValueError and the file formats' own errors. For the user they
    # all mean that the weights cannot be loaded.
    try:
        config = AutoConfig.from_pretrained(pretrained, trust_remote_code=False)
        _check_type(config, name)
        model = AutoModelForCausalLM.from_pretrained(
            pretrained, config=config, dtype=torch.float32, trust_remote_code=False
        )
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
    # Embeddings are padded by a few hundred rows at most; many more mean another vocabulary.
    if vocab_size < rows / 2:
        raise UsageError(
            f"{name} has a vocabulary of {rows} tokens, the tokenizer {vocab_size}: "
            f"choose tokenizer=pretrained tokenizer.model={pretrained}"
        )
    if vocab_size > rows:
        model.resize_token_embeddings(vocab_size)
    return model.train()  # transformers loads models in evaluation mode


def _check_type(config: PreTrainedConfig, name: str) -> None:
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        raise UsageError(
            f"{name} is a {config.model_type} model, not a decoder-only one: give a causal "
            "language model, or choose another model class (model=t5_base for T5)"
        )
    _refuse_variants(config, name)


def _has(config: PreTrainedConfig, key: str) -> bool:
    try:
        return hasattr(config, key)
    except Exception:  # Gemma 4 has settings that may only be read layer by layer
        return True


# Settings whose models do not compute from embeddings alone what transformers computes from ids, or
# compute something else with some of its attention kernels.
_VARIANTS = {
    "hidden_size_per_layer_input": "their layers read token ids again",
    "attn_logit_softcapping": "their attention scores are capped",
    "use_bidirectional_attention": "their tokens see later ones",
}


def _refuse_variants(config: PreTrainedConfig, name: str) -> None:
    """Raises UsageError if the configuration says that the model is not computed right here."""
    settings = config.get_text_config(decoder=True).to_dict()
    for key, reason in _VARIANTS.items():
        if settings.get(key):
            raise UsageError(
                f"{name}: {config.model_type} models do not fit model=causal_lm, because {reason} "
                f"({key}={settings[key]}): choose another model"
            )
    rope = settings.get("rope_parameters")
    if not isinstance(rope, dict):
        return
    own = getattr(config, "default_rope_type", "default")
    for part in (rope, *(value for value in rope.values() if isinstance(value, dict))):
        kind = part.get("rope_type", "default")
        if kind not in ("default", own, *ROPE_INIT_FUNCTIONS):
            raise UsageError(f"{name}: transformers has no rope_type {kind}: choose another model")


@torch.no_grad()
def _check_hidden(model: PreTrainedModel) -> None:
    """Checks on the model itself that embeddings are all it reads, and that attention is causal.

    The states of seven tokens must be the same from ids as from embeddings, whatever the eighth is.

    Raises:
        UsageError: they are not.
    """
    refusal = f"{model.config.model_type} models do not fit model=causal_lm, because "
    decoder: Any = model.get_decoder()
    embedding: Any = model.get_input_embeddings()
    rows = embedding.num_embeddings
    draw = torch.Generator().manual_seed(0)  # does not touch the run's random state
    ids = torch.randint(rows, (1, 8), generator=draw)
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % rows
    try:
        with evaluating(model):
            expected = decoder(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
            found = decoder(inputs_embeds=embedding(other), use_cache=False).last_hidden_state
    except Exception as error:
        raise UsageError(
            f"{refusal}they do not run on embeddings alone ({one_line(error)[:100]}): "
            "choose another model"
        ) from error
    if not torch.allclose(found[:, :-1], expected, rtol=0, atol=1e-3 * float(expected.abs().max())):
        raise UsageError(
            f"{refusal}their states depend on more than the embeddings of earlier tokens: "
            "choose another model"
        )


def _arguments(model: PreTrainedModel) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model.get_decoder().forward).parameters


@torch.no_grad()
def _logit_scale(model: PreTrainedModel) -> float:
    """The factor c in logits = c * hidden @ unembedding.T, measured on the model's own forward.

    We replace the hidden states of two tokens by large random ones of two magnitudes, which would
    reveal a cap on the logits or a norm before the unembedding.

    Raises:
        UsageError: the logits are not such a multiple.
    """
    model_type = model.config.model_type
    refusal = f"{model_type} models do not fit model=causal_lm, because "
    if "past_key_values" not in _arguments(model):
        raise UsageError(f"{refusal}they have no key-value cache: choose another model")
    layer: Any = model.get_output_embeddings()
    if type(layer) is not nn.Linear:
        raise UsageError(f"{refusal}their unembedding is not a single matrix: choose another model")
    if layer.bias is not None:
        raise UsageError(f"{refusal}their unembedding has a bias: choose another model")
    generator = torch.Generator().manual_seed(0)  # does not touch the run's random state
    hidden = torch.randn(1, 2, layer.weight.shape[1], generator=generator)
    hidden *= 1000 / F.linear(hidden, layer.weight).std()
    hidden[:, 0] /= 10
    unscaled = F.linear(hidden, layer.weight)

    def replace(module: nn.Module, inputs: Any, output: ModelOutput) -> ModelOutput:
        output["last_hidden_state"] = hidden
        return output

    handle = model.get_decoder().register_forward_hook(replace)
    try:
        with evaluating(model):
            logits = model(torch.zeros(1, 2, dtype=torch.long), use_cache=False).logits
    except Exception as error:
        reason = one_line(error)
        raise UsageError(
            f"model.config gives a {model_type} model that does not run: {reason}"
        ) from error
    finally:
        handle.remove()
    scale = float((logits.double() * unscaled).sum() / unscaled.double().square().sum())
    if not torch.allclose(logits, scale * unscaled, rtol=1e-4, atol=1e-4 * abs(scale) * 1000):
        raise UsageError(
            f"{refusal}their logits are not a multiple of hidden @ unembedding.T: "
            "choose another model"
        )
    return scale
