"""The layout of transformers' LlamaForCausalLM: `config.json` and safetensors (or torch files).

Rotary positions: transformers rotates channel i of a head together with i + E / 2, Meta's code and
this repository 2 i with 2 i + 1. Reordering the rows of the query and key projections converts one
into the other.

Shapes: D hidden size, H attention heads, E = D / H.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from beyond_ce.checkpoints.checkpoint import (
    Checkpoint,
    empty_decoder,
    llama_config,
    load_weights,
    multiple_of,
)
from beyond_ce.checkpoints.files import JsonFile, read_tensors
from beyond_ce.checkpoints.llama import EOS_ID, PAD_ID, llama_parameters
from beyond_ce.errors import RunError, UsageError
from beyond_ce.models.decoder import Decoder

_LAYER_NAMES = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_NAMES = {
    "tok_embeddings": "model.embed_tokens",
    "norm": "model.norm",
    "output": "lm_head",
}
_EMBEDDING, _UNEMBEDDING = "model.embed_tokens.weight", "lm_head.weight"
_ROTATED = ("q_proj.weight", "k_proj.weight")


def read_hugging_face(folder: Path, dtype: torch.dtype | None = None) -> Checkpoint:
    """The checkpoint in `folder`, with an `lm` head.

    A tied unembedding becomes a separate matrix. The end and padding tokens are those of
    `config.json`, or Llama 2's.

    Args:
        dtype: the model's; None keeps the files' own.

    Raises:
        UsageError: `Decoder` does not support the architecture.
        RunError: a file or tensor is missing, damaged or unexpected.
    """
    settings = JsonFile(folder / "config.json")
    _refuse_variants(settings)
    dim, heads = settings.integer("hidden_size"), settings.integer("num_attention_heads")
    vocab_size = settings.integer("vocab_size")
    hidden_dim = settings.integer("intermediate_size")
    config = llama_config(
        vocab_size,
        _token(settings, "pad_token_id", vocab_size, PAD_ID),
        _token(settings, "eos_token_id", vocab_size, EOS_ID),
        n=1,
        dim=dim,
        num_layers=settings.integer("num_hidden_layers"),
        num_heads=heads,
        max_length=settings.integer("max_position_embeddings", 2048),
        multiple_of=multiple_of(dim, hidden_dim, f"{settings.path}: intermediate_size"),
        norm_eps=settings.number("rms_norm_eps", 1e-6),
        rope_theta=_rope_theta(settings),
    )
    model = empty_decoder(config, settings.path)
    tensors = _read_files(folder)
    if settings.get("tie_word_embeddings") and _EMBEDDING in tensors:
        # A copy, because our embeddings are untied.
        tensors[_UNEMBEDDING] = tensors[_EMBEDDING].clone()

    def interleave(name: str, weight: Tensor) -> Tensor:
        if not name.endswith(_ROTATED):
            return weight
        return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)

    load_weights(model, _parameters(model), tensors, folder, dtype, interleave)
    return Checkpoint(config, model)


def write_hugging_face(checkpoint: Checkpoint, folder: Path) -> None:
    """Write config.json and model.safetensors of the model without heads 2 to n.

    Raises:
        UsageError: the head does not predict tokens.
    """
    model = checkpoint.model.next_token_model()
    settings = model.settings
    heads = settings["num_heads"]

    def deinterleave(name: str, weight: Tensor) -> Tensor:
        if not name.endswith(_ROTATED):
            return weight.contiguous()
        return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)

    parameters = _parameters(model)
    tensors = {name: deinterleave(name, value.detach()) for name, value in parameters.items()}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": settings["dim"],
        "intermediate_size": parameters["model.layers.0.mlp.gate_proj.weight"].shape[0],
        "num_hidden_layers": len(model.layers),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "rms_norm_eps": settings["norm_eps"],
        "rope_theta": settings["rope_theta"],
        "max_position_embeddings": settings["max_length"],
        "vocab_size": model.embedding.num_embeddings,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": model.eos_id,
        "pad_token_id": model.pad_id,
        "torch_dtype": str(model.embedding.weight.dtype).removeprefix("torch."),
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _parameters(model: Decoder) -> dict[str, Tensor]:
    """The parameters of a model with one head, by their names in this layout."""
    parameters = {}
    for name, value in llama_parameters(model).items():
        if name.startswith("layers."):
            _, number, *key, _ = name.split(".")
            module = f"model.layers.{number}.{_LAYER_NAMES['.'.join(key)]}"
        else:
            module = _NAMES[name.removesuffix(".weight")]
        parameters[f"{module}.weight"] = value
    return parameters


def _refuse_variants(settings: JsonFile) -> None:
    def refuse(feature: str) -> UsageError:
        return UsageError(
            f"{settings.path}: {feature}, which models here do not support: "
            "choose another checkpoint"
        )

    if settings.get("model_type") != "llama":
        raise UsageError(
            f"{settings.path}: model_type={settings.get('model_type')} is not llama: "
            "use model=causal_lm for other models in transformers"
        )
    heads, groups = settings.integer("num_attention_heads"), settings.get("num_key_value_heads")
    if groups not in (None, heads):
        raise refuse(f"num_key_value_heads={groups} of {heads} heads is grouped-query attention")
    dim, head_dim = settings.integer("hidden_size"), settings.get("head_dim")
    if head_dim not in (None, dim / heads):
        raise refuse(f"head_dim={head_dim} is not the hidden size {dim} over {heads} heads")
    for key in ("attention_bias", "mlp_bias", "quantization_config"):
        if settings.get(key):
            raise refuse(f"{key} is set")
    if settings.get("hidden_act") not in (None, "silu", "swish"):
        raise refuse(f"hidden_act={settings.get('hidden_act')} is not silu")
    # `rope_scaling` up to transformers 4, a part of `rope_parameters` since 5.
    for key in ("rope_scaling", "rope_parameters"):
        rope = settings.get(key) or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise refuse(f"{key} of type {kind} scales rotary positions")


def _rope_theta(settings: JsonFile) -> float:
    inner = (settings.get("rope_parameters") or {}).get("rope_theta")
    return settings.number("rope_theta", 10000.0) if inner is None else float(inner)


def _token(settings: JsonFile, key: str, vocab_size: int, default: int) -> int:
    """A token's id; the first of several, such as end of turn and end of text."""
    value = settings.get(key)
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, int) and 0 <= value < vocab_size else default


def _read_files(folder: Path) -> dict[str, Tensor]:
    """The tensors of the folder's single file, or of all files in its index."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if index.exists():
            tensors = _read_index(index)
        elif (folder / name).exists():
            tensors = read_tensors(folder / name)
        else:
            continue
        return {key: value for key, value in tensors.items() if not key.endswith("inv_freq")}
    raise RunError(
        f"{folder} has no model.safetensors, pytorch_model.bin or index file: "
        "download the checkpoint again"
    )


def _read_index(path: Path) -> dict[str, Tensor]:
    files = JsonFile(path).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise RunError(f"{path} has no weight_map of files: download the checkpoint again")
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        tensors |= read_tensors(path.with_name(Path(file).name))
    return tensors
