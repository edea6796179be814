"""The layout of Meta's Llama and of the released multi-token models.

A folder with `params.json` and `consolidated.*.pth`, one file for each part of a model that was
trained in parts. Of L layers in all, `layers` holds the trunk's and, as its last, the block of the
next token's head; `extra_heads` holds the other n - 1 heads' blocks. All blocks read the trunk's
output, and go through one `norm` and one `output`. Rotary pairs are interleaved, as here.

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
    fill,
    llama_config,
    multiple_of,
)
from beyond_ce.checkpoints.files import JsonFile, read_tensors
from beyond_ce.errors import RunError, UsageError
from beyond_ce.models.decoder import Decoder
from beyond_ce.models.heads import LMHead, MultiTokenHead, SharedUnembedding, TransformerBlocks

PAD_ID, EOS_ID = 0, 2
"""Of Llama 2's tokenizer, which has no padding token: the unknown one, which its bytes leave
without use."""

MAX_LENGTH, ROPE_THETA = 4096, 10000.0

# Along which dimension a matrix is cut into parts; what is not here is whole in every part.
_CUT = {"wq": 0, "wk": 0, "wv": 0, "w1": 0, "w3": 0, "output": 0, "wo": 1, "w2": 1}
_CUT |= {"tok_embeddings": 1}


def read_llama(
    folder: Path,
    dtype: torch.dtype | None = None,
    max_length: int | None = None,
    pad_id: int = PAD_ID,
    eos_id: int = EOS_ID,
) -> Checkpoint:
    """The checkpoint in `folder`, with the n heads that it has.

    Args:
        dtype: of the model; None keeps that of the files.
        max_length: longest sequence in tokens; None for that of `params.json`, or 4096.

    Raises:
        UsageError: the architecture is one that `Decoder` has not.
        RunError: a file or tensor is missing, damaged or too many.
    """
    params = JsonFile(folder / "params.json")
    _refuse_variants(params)
    tensors = _read_parts(folder)
    dim, n_layers = params.integer("dim"), params.integer("n_layers")
    n = params.integer("n_future_tokens", _count_heads(tensors, n_layers))
    # `n_layers` is L; where it is that of `layers` alone, the heads' layers are not counted yet.
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
    fill(model, llama_parameters(model), tensors, folder, dtype)
    return Checkpoint(config, model)


def write_llama(checkpoint: Checkpoint, folder: Path) -> None:
    """Write params.json and consolidated.00.pth with all heads.

    Raises:
        UsageError: the head has no place in the layout.
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
    # Meta's own loader knows no further keys: they stand there only where something depends on it.
    if settings["rope_theta"] != ROPE_THETA:
        params["rope_theta"] = settings["rope_theta"]
    if settings["max_length"] != MAX_LENGTH:
        params["max_seq_len"] = settings["max_length"]
    torch.save(tensors, folder / "consolidated.00.pth")
    (folder / "params.json").write_text(json.dumps(params, indent=2) + "\n")


def llama_parameters(model: Decoder) -> dict[str, Tensor]:
    """The model's parameters by their names in this layout.

    Raises:
        UsageError: the head has no place in it.
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
            "unembedding: choose --to native, or --to hf for the next token's head alone"
        )
    modules = {f"layers.{i}": layer for i, layer in enumerate(layers)}
    modules |= {f"extra_heads.{i}": block for i, block in enumerate(extra)}
    modules |= {"norm": norm}
    places: dict[str, Tensor] = {"tok_embeddings.weight": model.embedding.weight}
    for prefix, module in modules.items():
        places |= {f"{prefix}.{name}": value for name, value in module.named_parameters()}
    matrix = head.unembedding()
    assert matrix is not None
    return {**places, "output.weight": matrix}


def _refuse_variants(params: JsonFile) -> None:
    heads, groups = params.integer("n_heads"), params.get("n_kv_heads")
    if groups not in (None, heads):
        raise UsageError(
            f"{params.path}: n_kv_heads={groups} of {heads} heads is grouped-query attention, "
            "which models here do not have: choose another checkpoint"
        )
    if params.get("use_scaled_rope"):
        raise UsageError(
            f"{params.path}: use_scaled_rope stretches rotary positions, which models here do not: "
            "choose another checkpoint"
        )


def _multiple_of(params: JsonFile, dim: int) -> int:
    """What `Decoder` rounds up to; a factor on the feed-forward size is in it."""
    factor, rounding = params.number("ffn_dim_multiplier", 1), params.integer("multiple_of", 256)
    least = int(2 * 4 * dim / 3)
    hidden_dim = rounding * -(-int(factor * least) // rounding)
    if hidden_dim == rounding * -(-least // rounding):
        return rounding
    return multiple_of(dim, hidden_dim, f"{params.path}: ffn_dim_multiplier={factor}")


def _count_heads(names: Iterable[str], n_layers: int) -> int:
    """n, by the layers that are not in `layers`, so that a head that is missing is missed."""
    names = list(names)
    layers, extra = _count(names, "layers"), _count(names, "extra_heads")
    return 1 + (n_layers - layers if extra and layers < n_layers else extra)


def _count(names: Iterable[str], prefix: str) -> int:
    """How many modules `prefix`.0, `prefix`.1, .. there are, up to the last."""
    numbers = (re.match(rf"{prefix}\.(\d+)\.", name) for name in names)
    return max((int(number[1]) + 1 for number in numbers if number), default=0)


def _read_parts(folder: Path) -> dict[str, Tensor]:
    """All parts merged; those of a model in one part are as they are in the file."""
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
        if not name.endswith("rope.freqs"):  # a table that follows from the settings
            merged[name] = _merge(name, parts, paths)
    return merged


def _merge(name: str, parts: list[dict[str, Tensor]], paths: list[Path]) -> Tensor:
    pieces: list[Tensor] = []
    for part, path in zip(parts, paths, strict=True):
        if name not in part:
            known = pieces[0] if pieces else next(each[name] for each in parts if name in each)
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
    dimension = _CUT.get(name.split(".")[-2]) if "." in name else None
    if len(pieces) == 1:
        return pieces[0]
    if dimension is not None and pieces[0].ndim == 2:
        return torch.cat(pieces, dim=dimension)
    for piece, path in zip(pieces, paths, strict=True):
        if not torch.equal(piece, pieces[0]):
            raise RunError(
                f"{path}: {name} of shape {[*piece.shape]} differs from that in {paths[0].name}, "
                "expected the same: the parts are of different checkpoints"
            )
    return pieces[0]
