"""`config.json` of transformers' Llama, Mistral and Qwen2, as settings of `Decoder` and back.

What `Decoder` does not compute is refused. A model's type alone does not tell, so every key that
may change the arithmetic must be one that is read here, or be off.
"""

from __future__ import annotations

import re
from typing import Any

from beyond_ce.checkpoints.checkpoint import multiple_of
from beyond_ce.checkpoints.files import JsonFile
from beyond_ce.errors import UsageError
from beyond_ce.models.decoder import Decoder
from beyond_ce.models.rope_scaling import check_scaling

TYPES = ("llama", "mistral", "qwen2")
_BIASED = "qwen2"  # queries, keys and values have biases

_READ = {
    "rope_theta", "rope_scaling", "rope_parameters", "sliding_window", "use_sliding_window",
    "max_window_layers", "rms_norm_eps",
}  # fmt: skip
_MAY_CHANGE_ARITHMETIC = re.compile(
    "soft_?cap|sliding|window|per_layer|multiplier|scal|expert|bias|norm|rope|rotary|lora|clip|"
    "alibi|chunk|residual|altup|laurel|shared|bidirectional|quantization"
)
_ORIGINAL = "original_max_position_embeddings"


def read_decoder_settings(settings: JsonFile) -> dict[str, Any]:
    """The arguments of `Decoder` that give the model of a `config.json`.

    Raises:
        UsageError: `Decoder` does not support the architecture.
        RunError: a number is missing or makes no sense.
    """
    _refuse_variants(settings)
    dim, heads = settings.integer("hidden_size"), settings.integer("num_attention_heads")
    hidden_dim = settings.integer("intermediate_size")
    values: dict[str, Any] = {
        "dim": dim,
        "num_layers": settings.integer("num_hidden_layers"),
        "num_heads": heads,
        "max_length": settings.integer("max_position_embeddings", 2048),
        "multiple_of": multiple_of(dim, hidden_dim, f"{settings.path}: intermediate_size"),
        "norm_eps": settings.number("rms_norm_eps", 1e-6),
        "rope_theta": _rope_theta(settings),
    }
    # Only what differs from the defaults, so that other checkpoints keep their configs.
    groups = settings.integer("num_key_value_heads", heads)
    scaling = _rope_scaling(settings)
    special = {
        "num_kv_heads": groups if groups != heads else None,
        "rope_scaling": scaling,
        "qkv_bias": settings.get("model_type") == _BIASED,
        "tie_embeddings": bool(settings.get("tie_word_embeddings")),
    }
    return values | {key: value for key, value in special.items() if value}


def decoder_keys(model: Decoder) -> dict[str, Any]:
    """The keys of `config.json` that describe a model with one head, tokens and dtype left out."""
    settings = model.settings
    kind, name = ("qwen2", "Qwen2") if settings["qkv_bias"] else ("llama", "Llama")
    rope: dict[str, Any] = settings["rope_scaling"] or {"rope_type": "default"}
    keys: dict[str, Any] = {
        "architectures": [f"{name}ForCausalLM"],
        "model_type": kind,
        "hidden_act": "silu",
        "hidden_size": settings["dim"],
        "num_hidden_layers": len(model.layers),
        "num_attention_heads": settings["num_heads"],
        "num_key_value_heads": settings["num_kv_heads"],
        "rms_norm_eps": settings["norm_eps"],
        "rope_theta": settings["rope_theta"],
        "max_position_embeddings": settings["max_length"],
        "vocab_size": model.embedding.num_embeddings,
        "tie_word_embeddings": settings["tie_embeddings"],
    }
    if settings["rope_scaling"] is not None:
        # Up to transformers 4, and since 5.
        keys["rope_scaling"] = rope
        keys["rope_parameters"] = {**rope, "rope_theta": settings["rope_theta"]}
    if settings["qkv_bias"]:
        return {**keys, "use_sliding_window": False}
    return {**keys, "attention_bias": False, "mlp_bias": False}


def _refuse_variants(settings: JsonFile) -> None:
    def refuse(feature: str) -> UsageError:
        return UsageError(
            f"{settings.path}: {feature}, which models here do not support: "
            "choose another checkpoint"
        )

    kind = settings.get("model_type")
    if kind not in TYPES:
        raise UsageError(
            f"{settings.path}: model_type={kind} is not one of {', '.join(TYPES)}: "
            "use model=causal_lm for other models in transformers"
        )
    heads, groups = settings.integer("num_attention_heads"), settings.get("num_key_value_heads")
    if groups is not None and heads % settings.integer("num_key_value_heads"):
        raise refuse(f"num_key_value_heads={groups} does not divide {heads} heads")
    dim, head_dim = settings.integer("hidden_size"), settings.get("head_dim")
    if head_dim not in (None, dim / heads):
        raise refuse(f"head_dim={head_dim} is not the hidden size {dim} over {heads} heads")
    if settings.get("hidden_act") not in (None, "silu", "swish"):
        raise refuse(f"hidden_act={settings.get('hidden_act')} is not silu")
    if settings.get("is_causal") is False:
        raise refuse("is_causal=false lets tokens see later ones")
    kinds = settings.get("layer_types") or []
    other = [kind for kind in kinds if kind != "full_attention"]
    if other and not _window_is_wide(settings):
        raise refuse(f"layer_types has {other[0]}")
    if not kinds and _slides(settings):
        raise refuse(f"sliding_window={settings.get('sliding_window')} limits attention")
    for key, value in settings.values.items():
        if key in _READ or not _MAY_CHANGE_ARITHMETIC.search(key):
            continue
        if value and not (value == 1 and _is_factor(key)):
            raise refuse(f"{key} is set")


def _is_factor(key: str) -> bool:
    """Whether a value of 1 changes nothing."""
    return key == "partial_rotary_factor" or (
        ("multiplier" in key or "scal" in key) and "attention" not in key and "attn" not in key
    )


def _slides(settings: JsonFile) -> bool:
    """Whether some layer attends to fewer tokens than the context holds."""
    if settings.get("model_type") == _BIASED:
        layers = settings.integer("num_hidden_layers")
        first = settings.get("max_window_layers")  # those below have full attention
        if not settings.get("use_sliding_window") or (isinstance(first, int) and first >= layers):
            return False
    return not _window_is_wide(settings)


def _window_is_wide(settings: JsonFile) -> bool:
    if settings.get("sliding_window") is None:
        return "layer_types" not in settings.values
    length = settings.integer("max_position_embeddings", 2048)
    return settings.integer("sliding_window") >= length


def _rope(settings: JsonFile) -> dict[str, Any]:
    """`rope_scaling` up to transformers 4, `rope_parameters` since 5, without what is not set."""
    values: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):
        part = settings.get(key) or {}
        if not isinstance(part, dict) or any(isinstance(value, dict) for value in part.values()):
            raise UsageError(
                f"{settings.path}: {key} is not one set of numbers for all layers, which models "
                "here do not support: choose another checkpoint"
            )
        values |= {name: value for name, value in part.items() if value is not None}
    return values


def _rope_theta(settings: JsonFile) -> float:
    inner = _rope(settings).get("rope_theta")
    return settings.number("rope_theta", 10000.0) if inner is None else float(inner)


def _rope_scaling(settings: JsonFile) -> dict[str, Any] | None:
    values = _rope(settings)
    values.pop("rope_theta", None)
    older = values.pop("type", "default")
    kind = values.setdefault("rope_type", older)
    if values.get("partial_rotary_factor") == 1:
        del values["partial_rotary_factor"]
    if kind in ("llama3", "yarn"):
        length = settings.integer("max_position_embeddings", 2048)
        if settings.get(_ORIGINAL) is not None:
            values[_ORIGINAL] = settings.integer(_ORIGINAL)
        values.setdefault(_ORIGINAL, length)
        if kind == "yarn" and isinstance(values[_ORIGINAL], int) and values[_ORIGINAL] > 0:
            values.setdefault("factor", length / values[_ORIGINAL])
    elif kind in ("default", "linear"):
        values.pop(_ORIGINAL, None)
    try:
        return check_scaling(values)
    except UsageError as error:
        raise UsageError(f"{settings.path}: {error}, or choose another checkpoint") from error
