"""Experiment tracking: Weights & Biases, or nothing."""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from beyond_ce.errors import one_line
from beyond_ce.settings import TEXT, optional, takes
from beyond_ce.training.records import read_records


class NoLogger:
    """Tracks nothing; metrics.jsonl in the run's folder is written anyway."""

    id: str | None = None

    def start(self, folder: Path, config: dict[str, Any]) -> None:
        """Begin the run in `folder`, whose name is the run's id."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Record values at a training step."""

    def finish(self, metrics: dict[str, float]) -> None:
        """Record the final metrics and close."""


class WandbLogger(NoLogger):
    """Weights & Biases: online when a key is configured, else offline; never asks, never stops
    the run.

    A resumed run continues under its id. Offline there is no server to continue on, and uploading
    two parts with one id would leave the second alone. So the resumed part starts with what
    metrics.jsonl has of the steps before, and then the older parts are deleted.

    Args:
        project: the W&B project.
        entity: the W&B team or user; null for the key's default.
        mode: online, offline or disabled; null for WANDB_MODE or, without it, online. Without a
            key online becomes offline.
    """

    @takes(
        "logger",
        project=TEXT,
        entity=optional(TEXT),
        mode=optional(TEXT),
    )
    def __init__(self, project: str, entity: str | None = None, mode: str | None = None) -> None:
        self.project = project
        self.entity = entity
        self.mode = mode or os.environ.get("WANDB_MODE") or "online"
        self._run: Any = None
        self._metrics = Path()
        self._older: list[Path] = []

    def start(self, folder: Path, config: dict[str, Any]) -> None:
        self._metrics = folder / "metrics.jsonl"

        def begin() -> None:
            import wandb

            # Without a key `init` would ask for one.
            if self.mode == "online" and not wandb.login(prompt=False, verify=False):
                self.mode = "offline"
            if self.mode == "offline":
                self._older = sorted((folder / "wandb").glob("offline-run-*"))
            # The folder's name as id: a resumed run continues the same W&B run.
            self._run = wandb.init(
                project=self.project,
                entity=self.entity,
                id=folder.name,
                name=folder.name,
                dir=folder,
                config=config,
                mode=self.mode,  # type: ignore[arg-type]
                resume="allow",
                reinit="finish_previous",  # else wandb reuses a run that failed in this process
                settings=wandb.Settings(silent=True),
            )
            self.id = None if self.mode == "disabled" else folder.name

        self._safely(begin)

    def log(self, values: dict[str, float], step: int) -> None:
        if self._run is not None:
            self._safely(lambda: self._catch_up(step))
        if self._run is not None:
            self._safely(lambda: self._run.log(values, step=step))

    def _catch_up(self, step: float) -> None:
        """Record what earlier parts did before this step, the first of a resumed run."""
        if not self._older:
            return
        for record in read_records(self._metrics):
            if record["step"] < step:
                at = int(record.pop("step"))
                self._run.log(record, step=at)
        for part in self._older:
            shutil.rmtree(part, ignore_errors=True)
        self._older = []

    def finish(self, metrics: dict[str, float]) -> None:
        def end() -> None:
            self._catch_up(math.inf)
            self._run.summary.update(metrics)
            self._run.finish()

        if self._run is not None:
            self._safely(end)

    def _safely(self, action: Any) -> None:
        try:
            action()
        except Exception as error:  # tracking must never cost a run
            self._run = None
            reason = one_line(error)[:160]
            print(f"warning: W&B stopped recording: {reason}", file=sys.stderr)
