"""The layout of Meta's Llama and of the released multi-token models.

A folder with `params.json` and `consolidated.*.pth`, one file per model-parallel part. Of L layers
in total, `layers` has the trunk's, followed by the block of the next token's head; `extra_heads`
has the blocks of the other n - 1 heads. All blocks read the trunk's output and share `norm` and
`output`. Rotary pairs are interleaved, as in our models.

Shapes: D hidden size, V vocabulary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from beyond_ce.checkpoints.checkpoint import (
    Checkpoint,
    empty_decoder,
    llama_config,
    load_weights,
    multiple_of,
)
from beyond_ce.checkpoints.files import JsonFile, read_tensors
from beyond_ce.errors import RunError, UsageError
from beyond_ce.models.decoder import Decoder
from beyond_ce.models.heads import LMHead, MultiTokenHead, SharedUnembedding, TransformerBlocks

PAD_ID, EOS_ID = 0, 2
"""Llama 2's. Its tokenizer has no padding token; we pad with the unknown token, which byte fallback
leaves unused."""

MAX_LENGTH, ROPE_THETA = 4096, 10000.0

# The dimension along which a matrix is split into parts; other tensors are complete in every part.
_SPLIT_DIM = {"wq": 0, "wk": 0, "wv": 0, "w1": 0, "w3": 0, "output": 0, "wo": 1, "w2": 1}
_SPLIT_DIM |= {"tok_embeddings": 1}


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
    _refuse_variants(params)
    tensors = _read_parts(folder)
    dim, n_layers = params.integer("dim"), params.integer("n_layers")
    n = params.integer("n_future_tokens", _count_heads(tensors, n_layers))
    # `n_layers` should be L; if it only counts `layers`, add the blocks of the other heads.
    if _count(tensors, "layers") == n_layers:
        n_layers += n - 1
    vocab_size = params.get("vocab_size")
    if vocab_size in (None, -1):  # "the tokenizer's"
        embedding = tensors.get("tok_embeddings.weight")
        if embedding is None:
            raise RunError(
                f"{folder}: tok_embeddings.weight is missing, expected with {dim} columns: "
                "download the checkpoint again"
            )
        vocab_size = embedding.shape[0]
    else:
        vocab_size = params.integer("vocab_size")
    config = llama_config(
        vocab_size,
        pad_id,
        eos_id,
        n,
        dim=dim,
        num_layers=n_layers,
        num_heads=params.integer("n_heads"),
        max_length=max_length or params.integer("max_seq_len", MAX_LENGTH),
        multiple_of=_multiple_of(params, dim),
        norm_eps=params.number("norm_eps", 1e-5),
        rope_theta=params.number("rope_theta", ROPE_THETA),
    )
    model = empty_decoder(config, params.path)
    load_weights(model, llama_parameters(model), tensors, folder, dtype)
    return Checkpoint(config, model)


def write_llama(checkpoint: Checkpoint, folder: Path) -> None:
    """Write params.json and consolidated.00.pth with all heads.

    Raises:
        UsageError: the layout does not support the head.
    """
    model = checkpoint.model
    tensors = {name: value.detach() for name, value in llama_parameters(model).items()}
    settings = model.settings
    params = {
        "dim": settings["dim"],
        "n_layers": _count(tensors, "layers") + _count(tensors, "extra_heads"),
        "n_heads": settings["num_heads"],
        "vocab_size": model.embedding.num_embeddings,
        "multiple_of": settings["multiple_of"],
        "norm_eps": settings["norm_eps"],
    }
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
    parameters: dict[str, Tensor] = {"tok_embeddings.weight": model.embedding.weight}
    for prefix, module in modules.items():
        parameters |= {f"{prefix}.{name}": value for name, value in module.named_parameters()}
    matrix = head.unembedding()
    assert matrix is not None
    return {**parameters, "output.weight": matrix}


def _refuse_variants(params: JsonFile) -> None:
    heads, groups = params.integer("n_heads"), params.get("n_kv_heads")
    if groups not in (None, heads):
        raise UsageError(
            f"{params.path}: n_kv_heads={groups} of {heads} heads is grouped-query attention, "
            "which models here do not support: choose another checkpoint"
        )
    if params.get("use_scaled_rope"):
        raise UsageError(
            f"{params.path}: use_scaled_rope scales rotary positions, which models here do not "
            "support: choose another checkpoint"
        )


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


def _read_parts(folder: Path) -> dict[str, Tensor]:
    """The tensors of all parts, merged; a single part is not copied."""
    paths = sorted(folder.glob("consolidated.*.pth"))
    if not paths:
        raise RunError(f"{folder} has no consolidated.*.pth: download the checkpoint again")
    for number, path in enumerate(paths):
        expected = f"consolidated.{number:02}.pth"
        if path.name != expected:
            raise RunError(f"{folder / expected} is missing: download the checkpoint again")
    parts = [read_tensors(path) for path in paths]
    merged = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        if not name.endswith("rope.freqs"):  # a table that we compute from the settings
            merged[name] = _merge(name, parts, paths)
    return merged


def _merge(name: str, parts: list[dict[str, Tensor]], paths: list[Path]) -> Tensor:
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
    dimension = _SPLIT_DIM.get(name.split(".")[-2]) if "." in name else None
    if len(pieces) == 1:
        return pieces[0]
    if dimension is not None and pieces[0].ndim == 2:
        return torch.cat(pieces, dim=dimension)
    for piece, path in zip(pieces, paths, strict=True):
        if not torch.equal(piece, pieces[0]):
            raise RunError(
                f"{path}: {name} of shape {[*piece.shape]} differs from that in {paths[0].name}: "
                "the parts are from different checkpoints, download the checkpoint again"
            )
    return pieces[0]
