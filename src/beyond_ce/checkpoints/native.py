"""This repository's own layout, for any decoder and head.

A folder with `model.safetensors`, parameters named as in the model and what it counted in training,
and `config.json`: `vocab_size`, `pad_id`, `eos_id`, and `model` and `head` as in a run's config.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from beyond_ce.checkpoints.checkpoint import Checkpoint, counts, empty_decoder, load_weights
from beyond_ce.checkpoints.files import JsonFile, read_tensors, write_tensors


def read_native(folder: Path, dtype: torch.dtype | None = None) -> Checkpoint:
    """The checkpoint in `folder`.

    Args:
        dtype: the model's; None keeps the file's own.

    Raises:
        RunError: a file or tensor is missing, damaged or unexpected.
    """
    settings = JsonFile(folder / "config.json")
    path = folder / "model.safetensors"
    model = empty_decoder(settings.values, settings.path)
    load_weights(model, dict(model.named_parameters()), read_tensors(path), path, dtype)
    return Checkpoint(settings.values, model)


def write_native(checkpoint: Checkpoint, folder: Path) -> None:
    """Write config.json and model.safetensors."""
    model = checkpoint.model
    values = dict(model.named_parameters()) | counts(model)
    weights = {name: value.detach().contiguous() for name, value in values.items()}
    write_tensors(weights, folder / "model.safetensors")
    text = json.dumps(checkpoint.config, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
