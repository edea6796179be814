"""The layout of transformers' Llama, Mistral and Qwen2: `config.json` and safetensors (or torch
files).

Rotary positions: transformers rotates channel i of a head together with i + E / 2, Meta's code and
this repository 2 i with 2 i + 1. Reordering the rows of the query and key projections converts one
into the other.

Shapes: D hidden size, H attention heads, E = D / H.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from beyond_ce.checkpoints.checkpoint import (
    Checkpoint,
    empty_decoder,
    llama_config,
    load_weights,
)
from beyond_ce.checkpoints.files import ADVICE, JsonFile, read_tensors, write_tensors
from beyond_ce.checkpoints.generation_config import end_ids, one_or_several, read_generation
from beyond_ce.checkpoints.hugging_face_config import decoder_keys, read_decoder_settings
from beyond_ce.checkpoints.llama import EOS_ID, PAD_ID, llama_parameters
from beyond_ce.errors import RunError
from beyond_ce.models.decoder import Decoder
from beyond_ce.storage.reading import refusing_damage

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
_ROTATED = {"q_proj": "num_heads", "k_proj": "num_kv_heads"}


def read_hugging_face(folder: Path, dtype: torch.dtype | None = None) -> Checkpoint:
    """The checkpoint in `folder`, with an `lm` head.

    The end and padding tokens are those of `config.json` or `generation_config.json`, or Llama 2's.

    Args:
        dtype: the model's; None keeps the files' own.

    Raises:
        UsageError: `Decoder` does not support the architecture.
        RunError: a file or tensor is missing, damaged or unexpected.
    """
    settings = JsonFile(folder / "config.json")
    with refusing_damage(settings.path, ADVICE):
        arguments = read_decoder_settings(settings)
        generation = read_generation(folder, settings.values)
        vocab_size = settings.integer("vocab_size")
    config = llama_config(
        vocab_size,
        _token(generation.get("pad_token_id"), vocab_size, PAD_ID),
        _token(next(iter(end_ids(generation)), None), vocab_size, EOS_ID),
        n=1,
        **arguments,
    )
    model = empty_decoder(config, settings.path)
    tensors = _read_files(folder)
    if arguments.get("tie_embeddings"):
        _check_tied(tensors, folder)

    def interleave(name: str, value: Tensor) -> Tensor:
        heads = _rotated_heads(name, model)
        if heads is None:
            return value
        return value.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)

    load_weights(model, _parameters(model), tensors, folder, dtype, interleave)
    return Checkpoint(config, model, generation)


def write_hugging_face(checkpoint: Checkpoint, folder: Path) -> None:
    """Write config.json and model.safetensors of the model without heads 2 to n.

    Raises:
        UsageError: the head does not predict tokens.
    """
    model = checkpoint.model.next_token_model()

    def deinterleave(name: str, value: Tensor) -> Tensor:
        heads = _rotated_heads(name, model)
        if heads is None:
            return value.contiguous()
        return value.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)

    parameters = _parameters(model)
    tensors = {name: deinterleave(name, value.detach()) for name, value in parameters.items()}
    generation = checkpoint.generation
    config = {
        **decoder_keys(model),
        "intermediate_size": parameters["model.layers.0.mlp.gate_proj.weight"].shape[0],
        "bos_token_id": generation.get("bos_token_id"),
        "eos_token_id": one_or_several(list(dict.fromkeys([model.eos_id, *end_ids(generation)]))),
        "pad_token_id": model.pad_id,
        "torch_dtype": str(model.embedding.weight.dtype).removeprefix("torch."),
    }
    write_tensors(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _parameters(model: Decoder) -> dict[str, Tensor]:
    """The parameters of a model with one head, by their names in this layout."""
    parameters = {}
    for name, value in llama_parameters(model).items():
        if name.startswith("layers."):
            _, number, *key, kind = name.split(".")
            module = f"model.layers.{number}.{_LAYER_NAMES['.'.join(key)]}"
        else:
            module, kind = _NAMES[name.removesuffix(".weight")], "weight"
        parameters[f"{module}.{kind}"] = value
    if model.settings["tie_embeddings"]:
        del parameters[_UNEMBEDDING]
    return parameters


def _rotated_heads(name: str, model: Decoder) -> int | None:
    """The number of heads in a projection of queries or keys; None for other tensors."""
    parts = name.split(".")
    key = _ROTATED.get(parts[-2]) if len(parts) > 1 else None
    return None if key is None else model.settings[key]


def _check_tied(tensors: dict[str, Tensor], folder: Path) -> None:
    """Removes a copy of a tied unembedding.

    Raises:
        RunError: it is no copy.
    """
    matrix = tensors.pop(_UNEMBEDDING, None)
    if matrix is not None and not torch.equal(matrix, tensors.setdefault(_EMBEDDING, matrix)):
        raise RunError(
            f"{folder}: {_UNEMBEDDING} differs from {_EMBEDDING}, although config.json ties them: "
            "set tie_word_embeddings to false there, or download the checkpoint again"
        )


def _token(value: Any, vocab_size: int, default: int) -> int:
    return value if type(value) is int and 0 <= value < vocab_size else default


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
    if not isinstance(files, dict) or not all(
        isinstance(file, str) and Path(file).name for file in files.values()
    ):
        raise RunError(f"{path} has no weight_map of files: download the checkpoint again")
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        tensors |= read_tensors(path.with_name(Path(file).name))
    return tensors
