"""The layout of Meta's Llama and of the released multi-token models.

A folder with `params.json` and the weights: `consolidated.00.pth`, `consolidated.01.pth`, .., one
file per model-parallel part, or a single file such as `consolidated.pth`. Of L layers in total,
`layers` has the trunk's, followed by the block of the next token's head; `extra_heads` has the
blocks of the other n - 1 heads. All blocks read the trunk's output and share `norm` and `output`.
Rotary pairs are interleaved, as in our models.

Shapes: D hidden size, V vocabulary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from beyond_ce.checkpoints.checkpoint import (
    Checkpoint,
    empty_decoder,
    llama_config,
    load_weights,
    multiple_of,
)
from beyond_ce.checkpoints.files import ADVICE, JsonFile, read_tensors
from beyond_ce.errors import RunError, UsageError
from beyond_ce.models.decoder import Decoder
from beyond_ce.models.heads import LMHead, MultiTokenHead, SharedUnembedding, TransformerBlocks
from beyond_ce.storage.reading import refusing_damage

PAD_ID, EOS_ID = 0, 2
"""Llama 2's. Its tokenizer has no padding token; we pad with the unknown token, which byte fallback
leaves unused."""

MAX_LENGTH, ROPE_THETA = 4096, 10000.0

# The scaling in Meta's code for Llama 3.1 and later, but for `factor`.
_LLAMA_3: dict[str, Any] = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

# The dimension along which a matrix is split into parts; other tensors are complete in every part.
_SPLIT_DIM = {"wq": 0, "wk": 0, "wv": 0, "w1": 0, "w3": 0, "output": 0, "wo": 1, "w2": 1}
_EMBEDDING = "tok_embeddings.weight"


def read_llama(
    folder: Path,
    dtype: torch.dtype | None = None,
    max_length: int | None = None,
    pad_id: int = PAD_ID,
    eos_id: int = EOS_ID,
) -> Checkpoint:
    """The checkpoint in `folder`, with all its heads.

    Args:
        dtype: the model's; None keeps the files' own.
        max_length: longest sequence in tokens; None for max_seq_len of `params.json`, or 4096.

    Raises:
        UsageError: `Decoder` does not support the architecture.
        RunError: a file or tensor is missing, damaged or unexpected.
    """
    params = JsonFile(folder / "params.json")
    tensors = _read_parts(folder, params.integer("dim"))
    with refusing_damage(params.path, ADVICE):
        config = _config(params, tensors, max_length, pad_id, eos_id)
    model = empty_decoder(config, params.path)
    load_weights(model, llama_parameters(model), tensors, folder, dtype)
    return Checkpoint(config, model)


def _config(
    params: JsonFile,
    tensors: Mapping[str, Tensor],
    max_length: int | None,
    pad_id: int,
    eos_id: int,
) -> dict[str, Any]:
    """The config that builds the model of `params.json`.

    Raises:
        UsageError: `Decoder` does not support the architecture.
        RunError: a number is missing or makes no sense.
    """
    dim, n_layers = params.integer("dim"), params.integer("n_layers")
    n = params.integer("n_future_tokens", _count_heads(tensors, n_layers))
    # `n_layers` should be L; if it only counts `layers`, add the blocks of the other heads.
    if _count(tensors, "layers") == n_layers:
        n_layers += n - 1
    vocab_size = params.get("vocab_size")
    if vocab_size in (None, -1):  # "the tokenizer's"
        embedding = tensors.get(_EMBEDDING)
        if embedding is None:
            raise RunError(
                f"{params.path.parent}: {_EMBEDDING} is missing, expected with {dim} columns: "
                "download the checkpoint again"
            )
        vocab_size = embedding.shape[0]
    else:
        vocab_size = params.integer("vocab_size")
    heads = params.integer("n_heads")
    groups = params.integer("n_kv_heads", heads)
    # Only what differs from the defaults, so that other checkpoints keep their configs.
    special = {
        "num_kv_heads": groups if groups != heads else None,
        "rope_scaling": _scaling(params),
    }
    return llama_config(
        vocab_size,
        pad_id,
        eos_id,
        n,
        dim=dim,
        num_layers=n_layers,
        num_heads=heads,
        max_length=max_length or params.integer("max_seq_len", MAX_LENGTH),
        multiple_of=_multiple_of(params, dim),
        norm_eps=params.number("norm_eps", 1e-5),
        rope_theta=params.number("rope_theta", ROPE_THETA),
        **{key: value for key, value in special.items() if value},
    )


def write_llama(checkpoint: Checkpoint, folder: Path) -> None:
    """Write params.json and consolidated.00.pth with all heads; a tied matrix is written twice.

    Raises:
        UsageError: the layout does not support the head, or a part of the architecture.
    """
    model = checkpoint.model
    settings = model.settings
    if settings["qkv_bias"]:
        raise UsageError(
            "the Llama layout has no biases in attention, this model has: choose --to hf or native"
        )
    tensors = {name: value.detach() for name, value in llama_parameters(model).items()}
    if settings["tie_embeddings"]:
        tensors["output.weight"] = tensors["output.weight"].clone()
    params = {
        "dim": settings["dim"],
        "n_layers": _count(tensors, "layers") + _count(tensors, "extra_heads"),
        "n_heads": settings["num_heads"],
        "vocab_size": model.embedding.num_embeddings,
        "multiple_of": settings["multiple_of"],
        "norm_eps": settings["norm_eps"],
    }
    if settings["num_kv_heads"] != settings["num_heads"]:
        params["n_kv_heads"] = settings["num_kv_heads"]
    params |= _scaling_keys(settings["rope_scaling"])
    if model.head.n > 1:  # the released multi-token code needs it
        params["n_future_tokens"] = model.head.n
    # Meta's own loader does not know these keys: write them only if they differ from the defaults.
    if settings["rope_theta"] != ROPE_THETA:
        params["rope_theta"] = settings["rope_theta"]
    if settings["max_length"] != MAX_LENGTH:
        params["max_seq_len"] = settings["max_length"]
    torch.save(tensors, folder / "consolidated.00.pth")
    (folder / "params.json").write_text(json.dumps(params, indent=2) + "\n", encoding="utf-8")


def llama_parameters(model: Decoder) -> dict[str, Tensor]:
    """The model's parameters by their names in this layout.

    Raises:
        UsageError: the layout does not support the head.
    """
    head = model.head
    layers, extra, norm = list(model.layers), [], model.norm
    if (
        type(head) is MultiTokenHead
        and isinstance(head.blocks, TransformerBlocks)
        and isinstance(head.unembeddings, SharedUnembedding)
    ):
        layers, extra, norm = [*layers, head.blocks[0]], list(head.blocks)[1:], head.norm
    elif not isinstance(head, LMHead):
        raise UsageError(
            "the Llama layout has an lm head, or parallel heads with transformer blocks and one "
            "unembedding: choose --to native, or --to hf to keep only the next token's head"
        )
    modules = {f"layers.{i}": layer for i, layer in enumerate(layers)}
    modules |= {f"extra_heads.{i}": block for i, block in enumerate(extra)}
    modules |= {"norm": norm}
    parameters: dict[str, Tensor] = {_EMBEDDING: model.embedding.weight}
    for prefix, module in modules.items():
        parameters |= {f"{prefix}.{name}": value for name, value in module.named_parameters()}
    matrix = head.unembedding()
    assert matrix is not None
    return {**parameters, "output.weight": matrix}


def _scaling(params: JsonFile) -> dict[str, Any] | None:
    """The rotary scaling of Llama 3.1 and later.

    Raises:
        UsageError: the file does not say by how much.
    """
    if not params.get("use_scaled_rope"):
        return None
    if params.get("rope_scaling_factor") is None:
        raise UsageError(
            f"{params.path}: use_scaled_rope without rope_scaling_factor: add it there, 8 for "
            "Llama 3.1 and 3.3, 32 for Llama 3.2"
        )
    return {
        **_LLAMA_3,
        "factor": params.number("rope_scaling_factor"),
        "high_freq_factor": params.number("rope_high_freq_factor", _LLAMA_3["high_freq_factor"]),
    }


def _scaling_keys(scaling: Mapping[str, Any] | None) -> dict[str, Any]:
    """The keys of `params.json` for a rotary scaling.

    Raises:
        UsageError: it is not Llama 3's.
    """
    if scaling is None:
        return {}
    factors = ("factor", "high_freq_factor")
    if {**_LLAMA_3, **{key: scaling.get(key) for key in factors}} != dict(scaling):
        raise UsageError(
            f"the Llama layout has Llama 3's rotary scaling only, not {scaling['rope_type']} with "
            "other numbers: choose --to hf or native"
        )
    keys = {"use_scaled_rope": True, "rope_scaling_factor": scaling["factor"]}
    if scaling["high_freq_factor"] != _LLAMA_3["high_freq_factor"]:
        keys["rope_high_freq_factor"] = scaling["high_freq_factor"]
    return keys


def _multiple_of(params: JsonFile, dim: int) -> int:
    """The `multiple_of` of `Decoder`, which also accounts for `ffn_dim_multiplier`."""
    factor, rounding = params.number("ffn_dim_multiplier", 1), params.integer("multiple_of", 256)
    minimum = int(2 * 4 * dim / 3)
    hidden_dim = rounding * -(-int(factor * minimum) // rounding)
    if hidden_dim == rounding * -(-minimum // rounding):
        return rounding
    return multiple_of(dim, hidden_dim, f"{params.path}: ffn_dim_multiplier={factor}")


def _count_heads(names: Iterable[str], n_layers: int) -> int:
    """n, from the layers that are not in `layers`: counting `extra_heads` could overlook a missing
    one."""
    names = list(names)
    layers, extra = _count(names, "layers"), _count(names, "extra_heads")
    return 1 + (n_layers - layers if extra and layers < n_layers else extra)


def _count(names: Iterable[str], prefix: str) -> int:
    """The number of modules `prefix`.0, `prefix`.1, .. up to the last one."""
    numbers = (re.match(rf"{prefix}\.(\d+)\.", name) for name in names)
    return max((int(number[1]) + 1 for number in numbers if number), default=0)


def _find_parts(folder: Path) -> list[Path]:
    """The files of weights in their order. As in Meta's loader, any `*.pth` will do.

    Files whose names start with `consolidated` win over others beside them.

    Raises:
        RunError: there are none, or one of numbered files is missing.
    """
    paths = sorted(folder.glob("consolidated*.pth")) or sorted(folder.glob("*.pth"))
    if not paths:
        raise RunError(f"{folder} has no consolidated*.pth: download the checkpoint again")
    numbered = [path for path in paths if re.fullmatch(r"consolidated\.\d+\.pth", path.name)]
    for number, path in enumerate(numbered):
        expected = f"consolidated.{number:02}.pth"
        if path.name != expected:
            raise RunError(f"{folder / expected} is missing: download the checkpoint again")
    if numbered and len(numbered) < len(paths):
        other = next(path.name for path in paths if path not in numbered)
        raise RunError(
            f"{folder} has both {numbered[0].name} and {other}: leave only the files of one "
            "checkpoint there"
        )
    return paths


def _read_parts(folder: Path, dim: int) -> dict[str, Tensor]:
    """The tensors of all parts, merged; a single part is not copied."""
    paths = _find_parts(folder)
    parts = [read_tensors(path) for path in paths]
    merged = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        if not name.endswith("rope.freqs"):  # a table that we compute from the settings
            merged[name] = _merge(name, parts, paths, dim)
    return merged


def _merge(name: str, parts: list[dict[str, Tensor]], paths: list[Path], dim: int) -> Tensor:
    """The whole tensor of a name, from its pieces in all parts; D is `dim`."""
    pieces: list[Tensor] = []
    for part, path in zip(parts, paths, strict=True):
        if name not in part:
            known = pieces[0] if pieces else next(other[name] for other in parts if name in other)
            raise RunError(
                f"{path}: {name} is missing, expected with shape {[*known.shape]} as in the other "
                "parts: download the checkpoint again"
            )
        pieces.append(part.pop(name))
        if pieces[-1].shape != pieces[0].shape or pieces[-1].dtype != pieces[0].dtype:
            raise RunError(
                f"{path}: {name} has shape {[*pieces[-1].shape]} ({pieces[-1].dtype}), expected "
                f"{[*pieces[0].shape]} ({pieces[0].dtype}) as in {paths[0].name}: "
                "download the checkpoint again"
            )
    if len(pieces) == 1:
        return pieces[0]
    dimension = _SPLIT_DIM.get(name.split(".")[-2]) if "." in name else None
    if name == _EMBEDDING:  # Llama 2 splits its columns, Llama 3 its rows
        dimension = 0 if pieces[0].shape[-1] == dim else 1
    if dimension is not None and pieces[0].ndim == 2:
        return torch.cat(pieces, dim=dimension)
    for piece, path in zip(pieces, paths, strict=True):
        if not torch.equal(piece, pieces[0]):
            raise RunError(
                f"{path}: {name} of shape {[*piece.shape]} differs from that in {paths[0].name}: "
                "the parts are from different checkpoints, download the checkpoint again"
            )
    return pieces[0]
