"""The records of a training run: metrics.jsonl, and peak memory."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch


class Records:
    """Appends lines to metrics.jsonl and passes them on to the tracker.

    A resumed run continues after the checkpoint's step. Lines that the killed run wrote after its
    last checkpoint, or left half-written, are dropped, since those steps run again.
    """

    def __init__(
        self, path: Path, step: int, log: Callable[[dict[str, float], int], None], enabled: bool
    ) -> None:
        self.log = log
        self.enabled = enabled
        if not enabled:
            return
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line)
                except ValueError:
                    break
        path.write_text("".join(f"{line}\n" for line in kept))
        self._file = path.open("a", buffering=1)

    def write(self, values: dict[str, float], step: int) -> None:
        if self.enabled:
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self.log(values, step)

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            self._file.close()


def read_records(path: Path) -> list[dict[str, float]]:
    """The lines of a finished training's metrics.jsonl."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def peak_memory_mb() -> float:
    """Peak memory in MiB: of the device where there is one, else the process's resident set."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, but bytes on macOS
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
