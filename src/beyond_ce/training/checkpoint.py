"""Checkpoints that are whole or absent, and the random state that exact resumption needs."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import TorchCheckpointIO

from beyond_ce.errors import RunError, one_line
from beyond_ce.storage.digests import check_archive
from beyond_ce.storage.reading import refusing_damage
from beyond_ce.storage.writing import flush
from beyond_ce.training.session import Progress

_FROM_THE_START = "delete that file and start the same command again to train from the start"


class _StraightToFile(TorchCheckpointIO):
    """Writes a checkpoint where it belongs.

    Lightning's own first makes a copy in memory and then one in TMPDIR, where a killed process
    leaves it.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        with open(path, "wb") as file:
            torch.save(checkpoint, file)


def save_checkpoint(fabric: Fabric, path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path` atomically: a reader sees the old file or the new one.

    Raises:
        RunError: the disk is full or the folder cannot be written; the file at `path`, the
            previous checkpoint, is untouched.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with contextlib.suppress(NotImplementedError):  # of FSDP, which writes to the file itself
            fabric.strategy.checkpoint_io = _StraightToFile()
        fabric.save(temporary, state)
        if fabric.is_global_zero:
            flush(temporary)
            temporary.replace(path)
            flush(path.parent)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError of its zip writer.
        temporary.unlink(missing_ok=True)
        reason = one_line(error)[:160]
        raise RunError(
            f"cannot save {path}: {reason}; the previous checkpoint is kept: "
            "free some space and start the same command again to continue"
        ) from error
    fabric.barrier()


def load_checkpoint(
    fabric: Fabric, path: Path, state: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Read a checkpoint; modules and optimizers in `state` are restored in place.

    The file is first compared with the checksums that torch has written into it.

    Returns:
        What is not in `state`: the `progress` of the training and its `random` states.

    Raises:
        RunError: the file is truncated, corrupt, of another model, or no checkpoint of a run.
    """
    try:
        check_archive(path)
        rest = fabric.load(path, state, weights_only=True)
        if type(rest["progress"]["step"]) is not int:
            raise ValueError("it does not say at which step it was saved")
        return rest
    except Exception as error:  # whatever a file can hold instead of a checkpoint
        reason = one_line(error)[:160] or type(error).__name__
        raise RunError(f"cannot load checkpoint {path}: {reason}; {_FROM_THE_START}") from error


def resume(fabric: Fabric, path: Path, state: dict[str, Any]) -> Progress:
    """Restore `state` and the random generators from a checkpoint.

    Raises:
        RunError: as `load_checkpoint`.
    """
    rest = load_checkpoint(fabric, path, state)
    with refusing_damage(path, _FROM_THE_START):
        states = rest["random"]  # one per rank of the run that saved it, perhaps fewer than now
        set_random_state(states[fabric.global_rank % len(states)])
        if fabric.global_rank >= len(states):
            draw_apart(fabric.global_rank)
        return Progress(**rest["progress"])


def draw_apart(rank: int) -> None:
    """Let a rank after the first, whose generators are as the first's, draw other dropout masks."""
    if rank:
        torch.manual_seed(int(torch.randint(2**62, ())) + rank)


def random_state() -> dict[str, Any]:
    """The state of every random generator a training step may draw from."""
    bits, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        # As plain values: a checkpoint loads without unpickling arbitrary objects.
        "numpy": (bits, np.asarray(keys).tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        # This rank's device only: other ranks use the others.
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    bits, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((bits, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
