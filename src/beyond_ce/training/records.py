"""The records of a training run: metrics.jsonl, and peak memory."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from beyond_ce.errors import RunError
from beyond_ce.storage.reading import is_number, parse_json
from beyond_ce.storage.writing import GO_ON, write_atomically

_START_OVER = "delete the run's folder and start the same command again"


class Records:
    """Appends lines to metrics.jsonl and passes them on to the tracker.

    A resumed run continues after the checkpoint's step. Lines that the killed run wrote after its
    last checkpoint, or left half-written, are dropped, since those steps run again. The file that
    remains takes the old one's place whole: a kill at that moment loses nothing.

    Args:
        step: of the checkpoint.
        lines: how many there were when the checkpoint was saved; 0 if it does not say.

    Raises:
        RunError: a line before the checkpoint is damaged or missing, or the disk is full.
    """

    def __init__(
        self,
        path: Path,
        step: int,
        log: Callable[[dict[str, float], int], None],
        enabled: bool,
        lines: int = 0,
    ) -> None:
        self.log = log
        self.lines = 0
        self.enabled = enabled
        if not enabled:
            return
        self._path = path
        old = _content(path) if path.exists() else b""
        known = _lines_up_to(step, old, path)
        self.lines = len(known)
        if self.lines < lines:
            raise RunError(
                f"{path} is damaged (of {lines} lines up to step {step}, {self.lines} are left): "
                f"{_START_OVER}"
            )
        kept = b"".join(line + b"\n" for line in known)
        if kept != old or not path.exists():
            write_atomically(path, kept.decode())
        # Without a buffer: a line is in the file once it is written, or an error says why not.
        self._file = path.open("ab", buffering=0)

    def write(self, values: dict[str, float], step: int) -> None:
        if self.enabled:
            line = (json.dumps({"step": step, **values}) + "\n").encode()
            try:
                while line:
                    line = line[self._file.write(line) :]
            except OSError as error:
                raise self._cannot_write(error) from error
            self.lines += 1
            self.log(values, step)

    def flush(self) -> int:
        """Wait until the lines are on disk, before a checkpoint relies on them; their number."""
        if self.enabled:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._cannot_write(error) from error
        return self.lines

    def _cannot_write(self, error: OSError) -> RunError:
        return RunError(f"cannot write {self._path}: {error.strerror}; {GO_ON}")

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            self._file.close()


def read_records(path: Path) -> list[dict[str, float]]:
    """The lines of a finished training's metrics.jsonl.

    Raises:
        RunError: a line is damaged, or the file is missing.
    """
    lines = _content(path).splitlines()
    records = [_record(line) for line in lines]
    for number, record in enumerate(records, 1):
        if record is None:
            raise RunError(f"line {number} of {path} is damaged: {_START_OVER}")
    return [record for record in records if record is not None]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}; {_START_OVER}") from error


def _lines_up_to(step: int, content: bytes, path: Path) -> list[bytes]:
    """The lines of steps up to `step`; a damaged line may only come after them."""
    kept, damaged = [], 0
    for number, line in enumerate(content.splitlines(), 1):
        record = _record(line)
        if record is None:
            damaged = damaged or number
        elif record["step"] <= step:
            if damaged:
                raise RunError(f"line {damaged} of {path} is damaged: {_START_OVER}")
            kept.append(line)
    return kept


def _record(line: bytes) -> dict[str, float] | None:
    """The values of a line, or None if it is damaged."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return None
    return record if all(is_number(value) for value in record.values()) else None


def peak_memory_mb() -> float:
    """Peak memory in MiB: of the device where there is one, else the process's resident set."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, but bytes on macOS
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
