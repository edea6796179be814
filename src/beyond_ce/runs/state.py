"""What has become of a run so far, read from its folder alone.

Who starts or queues runs leaves `state.json` there: the job, the log, and why the last start
failed. A finished run has none.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig

from beyond_ce.runs.claim import is_claimed
from beyond_ce.storage.reading import is_number, parse_json, read_object
from beyond_ce.storage.writing import write_atomically

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
INTERRUPTED, MISSING = "interrupted", "missing"

_LAST_BYTES = 2**16  # of metrics.jsonl, in which the last speed stands


@dataclass(frozen=True)
class State:
    """A run at the moment.

    Attributes:
        name: queued, running, done, failed, interrupted or missing.
        step, steps: done and in all; 0 for a run without training.
        steps_per_s: the latest speed that was measured; None before the first.
        reason: of the failure.
        log: path of the output of its job, if it has one.
        job: SLURM's id, if it has one.
    """

    name: str
    step: int = 0
    steps: int = 0
    steps_per_s: float | None = None
    reason: str | None = None
    log: str | None = None
    job: str | None = None

    @property
    def seconds_left(self) -> float | None:
        """Of training, at the latest speed."""
        if self.name != RUNNING or not self.steps_per_s:
            return None
        return (self.steps - self.step) / self.steps_per_s


def note_queued(folder: Path, log: Path, job: str | None = None) -> None:
    """Notes that a run waits: for SLURM, or for this process to start it."""
    waits = {"job": job, "process": os.getpid(), "host": socket.gethostname()}
    _write(folder, {"log": str(log), "failed": None, **waits})


def note_started(folder: Path) -> None:
    """Forgets why the run failed before, and that it waited."""
    if values := _read(folder):
        _write(folder, {**values, "failed": None, "process": None})


def note_failed(folder: Path, reason: str) -> None:
    """Notes why the run could not go on; of no effect while another process works on it."""
    if not is_claimed(folder):
        _write(folder, {**_read(folder), "failed": reason, "process": None})


def forget(folder: Path) -> None:
    """For a run that is about to be marked as finished."""
    for path in folder.glob(f"{_NAME}*"):  # half-written ones too
        path.unlink()


def job_of(folder: Path) -> str | None:
    """SLURM's id of the job that the run was last queued as."""
    return _text(_read(folder), "job")


def failure_of(folder: Path) -> str | None:
    """Why the run's last start failed, as one line; None if it did not."""
    return _text(_read(folder), "failed")


def state_of(folder: Path, config: DictConfig) -> State:
    """The state of the run of `config` in `folder`.

    Raises:
        RunError: its state.json is damaged.
    """
    values = _read(folder)
    reason, log, job = (_text(values, key) for key in ("failed", "log", "job"))
    trainer = None if "baseline" in config else config.get("trainer")
    steps = trainer.get("max_steps", 0) if trainer else 0
    if (folder / "DONE").exists():
        return State(DONE, steps, steps, log=log, job=job)
    step, samples_per_s = _progress(folder / "metrics.jsonl")
    speed = samples_per_s / trainer.batch_size if trainer and samples_per_s else None
    if is_claimed(folder):
        name = RUNNING
    elif reason is not None:
        name = FAILED
    elif _waits(values):
        name = QUEUED
    else:
        name = INTERRUPTED if (folder / "config.yaml").exists() else MISSING
    return State(name, step, steps, speed, reason if name == FAILED else None, log, job)


_NAME = "state.json"


def _read(folder: Path) -> dict[str, Any]:
    path = folder / _NAME
    return read_object(path, "delete it") if path.exists() else {}


def _write(folder: Path, values: dict[str, Any]) -> None:
    write_atomically(folder / _NAME, json.dumps(values, indent=2) + "\n")


def _text(values: dict[str, Any], key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) else None


def _waits(values: dict[str, Any]) -> bool:
    """Whether who queued it has not started it yet, and may still do so."""
    process = values.get("process")
    if type(process) is not int:
        return False
    here = values.get("host") == socket.gethostname()
    return _text(values, "job") is not None or not here or psutil.pid_exists(process)


def _progress(path: Path) -> tuple[int, float | None]:
    """The last step and the last speed in metrics.jsonl, which may be half-written."""
    step, speed = 0, None
    for record in _last_records(path):
        if type(record.get("step")) is int:
            step = max(step, record["step"])
        if is_number(record.get("train/samples_per_s")):
            speed = float(record["train/samples_per_s"])
    return step, speed


def _last_records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LAST_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record
