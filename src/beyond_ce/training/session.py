"""A training run in progress: its parts, and how far it has come."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor
from torch.optim import Optimizer

from beyond_ce.training.faults import FirstNonFinite
from beyond_ce.training.objective import Objective
from beyond_ce.training.records import Records

if TYPE_CHECKING:
    from lightning_fabric.wrappers import _FabricModule

    from beyond_ce.batches.batch import Batch


class Batches(Protocol):
    """Training and validation batches, on the CPU; built by the caller."""

    def train(self, step: int, rank: int, ranks: int, parts: int) -> list[Batch]:
        """The `parts` micro-batches of this rank's share of optimizer step `step`."""
        ...

    def validation(self, rank: int, ranks: int) -> list[Batch]:
        """This rank's share of the validation batches."""
        ...

    def describe(self, step: int) -> str:
        """What all ranks train on at optimizer step `step`, such as "rows 3, 7 of ..."."""
        ...


class Scheduler(Protocol):
    """Sets the optimizer's learning rate; its state is part of every checkpoint."""

    def after_step(self) -> None: ...

    def after_evaluation(self, loss: float) -> None:
        """Gets every validation loss."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


@dataclass
class Progress:
    """How far a training run has come; part of every checkpoint.

    Attributes:
        step: optimizer steps done.
        seconds: wall-clock of training, over all parts of a resumed run.
        best_loss: lowest validation loss (NaN before the first).
        last_loss: the latest validation loss (NaN before the first).
        lines: of metrics.jsonl, when the checkpoint was saved; 0 if it does not say.
    """

    step: int = 0
    seconds: float = 0.0
    best_loss: float = math.nan
    last_loss: float = math.nan
    lines: int = 0


class Clock:
    """Adds the time that passes to `progress.seconds`, and measures steps per second."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.updated = self.lap_start = time.perf_counter()
        self.lap_step = progress.step

    def update(self) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self.updated
        self.updated = now

    def lap(self) -> float:
        """Steps per second since the last call."""
        now = time.perf_counter()
        rate = (self.progress.step - self.lap_step) / (now - self.lap_start)
        self.lap_start, self.lap_step = now, self.progress.step
        return rate


@dataclass
class Session:
    """What one call of `Trainer.fit` works on.

    Attributes:
        objective: what is trained; `module` runs it on the devices.
        state: module, optimizer and scheduler, as a checkpoint restores them in place.
        folder: where records and checkpoints go.
        terms: the last step's loss terms, of this rank's share of the batch.
        rate: the learning rate of the last step.
        keep_evaluated: whether the weights at every evaluation stay.
    """

    objective: Objective
    module: _FabricModule
    optimizer: Optimizer
    scheduler: Scheduler
    state: dict[str, Any]
    batches: Batches
    folder: Path
    progress: Progress
    records: Records
    clock: Clock
    non_finite: FirstNonFinite
    terms: dict[str, Tensor] = field(default_factory=dict)
    rate: float = math.nan
    keep_evaluated: bool = False
