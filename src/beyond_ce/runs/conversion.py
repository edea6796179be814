"""Converting checkpoints and finished runs from one layout to another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import nn

from beyond_ce.checkpoints import (
    Checkpoint,
    PretrainedDecoder,
    read_checkpoint,
    write_checkpoint,
)
from beyond_ce.checkpoints.checkpoint import DECODER
from beyond_ce.checkpoints.pretrained import num_layers
from beyond_ce.errors import RunError, UsageError, one_line
from beyond_ce.models import Decoder
from beyond_ce.runs.assembly import load_run
from beyond_ce.runs.loading import find_tokenizer
from beyond_ce.runs.store import read_config

_TOKENIZERS = ("tokenizer", "tokenizer.model", "tokenizer.json", "tokenizer_config.json")


def convert(
    source: Path,
    target: Path,
    to: str,
    dtype: torch.dtype | None = None,
    checkpoint: str = "last",
    tell: Callable[[str], object] = print,
) -> Checkpoint:
    """Read `source` and write `target`, tokenizer files included; returns what was read.

    Args:
        source: a run's folder, or a checkpoint in any layout.
        target: a new folder.
        to: llama, hf or native.
        dtype: of the weights in `target`; None keeps that of `source`.
        checkpoint: of a run, last or best.
        tell: called with a line of progress at every stage.

    Raises:
        UsageError: `source` is no checkpoint of a decoder, `target` exists, or the layout cannot
            hold the head.
        RunError: a file is damaged, or the disk full.
    """
    tell(f"reading {source}")
    if (source / "config.yaml").exists():
        loaded = read_run(source, checkpoint)
        loaded.model.to(dtype)
    else:
        loaded = read_checkpoint(source, dtype)
    size = sum(value.numel() * value.element_size() for value in loaded.model.parameters())
    tell(f"writing {target} as {to}, {size / 1e9:.3g} GB at most")
    write_checkpoint(loaded, target, to)
    try:
        for name in _TOKENIZERS:
            if (source / name).is_dir():
                shutil.copytree(source / name, target / name)
            elif (source / name).exists():
                shutil.copy(source / name, target / name)
        if (above := find_tokenizer(source)).is_file():
            shutil.copy(above, target / above.name)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)  # without a tokenizer it only looks complete
        raise RunError(
            f"cannot copy the tokenizer to {target}: {one_line(error)[:160]}; free some space or "
            "choose another"
        ) from error
    return loaded


def read_run(folder: Path, checkpoint: str) -> Checkpoint:
    """The decoder that a run has trained.

    Args:
        checkpoint: last or best.

    Raises:
        UsageError: there is no such run or checkpoint, or its model is no `Decoder`.
        RunError: its files are damaged.
    """
    model, tokenizer, _ = load_run(folder, checkpoint)
    if not isinstance(model, Decoder):
        raise UsageError(
            f"{folder} has trained a {type(model).__name__}: only decoders can be converted"
        )
    if type(model.embedding) is not nn.Embedding:
        raise UsageError(
            f"{folder} adds its tokenizer's number encodings to the embedding, which no layout can "
            "store: only runs with other tokenizers can be converted"
        )
    parts = OmegaConf.to_container(read_config(folder), resolve=True)
    assert isinstance(parts, dict)
    # All weights are there: nothing is to be loaded from another checkpoint.
    sizes = {key: value for key, value in parts["model"].items() if key != "pretrained"}
    if isinstance(model, PretrainedDecoder):
        sizes = {"_target_": DECODER, "num_layers": num_layers(model), **model.settings}
    config = {
        "vocab_size": model.embedding.num_embeddings,
        "pad_id": tokenizer.pad_id,
        "eos_id": tokenizer.eos_id,
        "model": sizes,
        "head": parts["head"],
    }
    return Checkpoint(config, model)
