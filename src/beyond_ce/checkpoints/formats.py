"""All layouts together: detects a folder's layout, reads any and writes any."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError

from beyond_ce.checkpoints.checkpoint import Checkpoint
from beyond_ce.checkpoints.files import JsonFile
from beyond_ce.checkpoints.generation_config import read_generation, write_generation
from beyond_ce.checkpoints.hugging_face import read_hugging_face, write_hugging_face
from beyond_ce.checkpoints.llama import EOS_ID, PAD_ID, read_llama, write_llama
from beyond_ce.checkpoints.native import read_native, write_native
from beyond_ce.errors import RunError, UsageError, one_line
from beyond_ce.models.decoder import Decoder

FORMATS: dict[str, Callable[[Checkpoint, Path], None]] = {
    "hf": write_hugging_face,
    "llama": write_llama,
    "native": write_native,
}
"""The writers of a checkpoint into a folder, by layout."""


def load_llama_checkpoint(
    folder: str | Path,
    dtype: torch.dtype | None = None,
    max_length: int | None = None,
    pad_id: int = PAD_ID,
    eos_id: int = EOS_ID,
) -> Decoder:
    """A model in the layout of Meta's Llama and of the released multi-token models.

    `logits(tokens [B, T])` gives [B, T, n, V] for the checkpoint's n heads. Weights that need no
    conversion are memory-mapped from the file.

    Args:
        folder: with params.json and consolidated.pth, or consolidated.00.pth and so on.
        dtype: the model's; None keeps the files' own.
        max_length: longest sequence in tokens; None for max_seq_len of params.json, or 4096.
        pad_id, eos_id: the tokenizer's; by default Llama 2's.

    Raises:
        UsageError: there is no such folder, or `Decoder` does not support the architecture.
        RunError: a file or tensor is missing, damaged or unexpected.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}: give a checkpoint's folder")
    return read_llama(folder, dtype, max_length, pad_id, eos_id).model


def load_decoder(folder: str | Path, dtype: torch.dtype | None = None) -> Decoder:
    """A model from a folder in any of the layouts (see `read_checkpoint`)."""
    return read_checkpoint(folder, dtype).model


def read_checkpoint(folder: str | Path, dtype: torch.dtype | None = None) -> Checkpoint:
    """A checkpoint in any layout, which is detected from the files in the folder.

    Args:
        dtype: the model's; None keeps the files' own.

    Raises:
        UsageError: there is no checkpoint, or `Decoder` does not support its architecture.
        RunError: a file or tensor is missing, damaged or unexpected.
    """
    folder = Path(folder)
    if (folder / "params.json").exists() or any(folder.glob("consolidated*.pth")):
        return _with_generation(read_llama(folder, dtype), folder)
    if not (folder / "config.json").exists():
        raise UsageError(
            f"{folder} has no checkpoint: give a folder with params.json (Llama) or config.json "
            "(Hugging Face, or converted here)"
        )
    if "head" in JsonFile(folder / "config.json").values:
        return _with_generation(read_native(folder, dtype), folder)
    return read_hugging_face(folder, dtype)


def _with_generation(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    checkpoint.generation = read_generation(folder)
    return checkpoint


def write_checkpoint(checkpoint: Checkpoint, folder: Path, to: str) -> None:
    """Write a checkpoint into a new folder, which appears only when it is complete.

    Args:
        to: a key of `FORMATS`.

    Raises:
        UsageError: the folder is not empty, or the layout does not support the head.
        RunError: the disk is full or the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already: give a new folder")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        FORMATS[to](checkpoint, partial)
        write_generation(checkpoint.generation, partial)
        partial.replace(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        # torch and safetensors raise their own errors when the disk is full.
        reason = one_line(error)[:160]
        raise RunError(f"cannot write {folder}: {reason}; free some space or choose another") from (
            error
        )
    finally:
        shutil.rmtree(partial, ignore_errors=True)
