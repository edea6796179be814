"""The only training loop. It knows no loss, data set, head or model by name."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import FSDPStrategy, Strategy
from torch import Tensor
from tqdm import tqdm

from beyond_ce.errors import RunError, UsageError
from beyond_ce.training.checkpoint import (
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
from beyond_ce.training.faults import FirstNonFinite, named
from beyond_ce.training.records import Records, peak_memory_mb
from beyond_ce.training.stopping import StopSignals


class Batches(Protocol):
    """Training and validation batches, on the CPU; built by the caller."""

    def train(self, step: int, rank: int, ranks: int, parts: int) -> list[Any]:
        """The `parts` micro-batches of this rank's share of optimizer step `step`."""
        ...

    def validation(self, rank: int, ranks: int) -> list[Any]:
        """This rank's share of the validation batches."""
        ...

    def describe(self, step: int) -> str:
        """What all ranks train on at optimizer step `step`, such as "rows 3, 7 of ..."."""
        ...


@dataclass
class TrainingResult:
    """What a finished training was.

    Attributes:
        steps: optimizer steps.
        samples: training examples seen, over all devices.
        seconds: wall-clock of training, over all parts of a resumed run.
        best_loss: lowest validation loss (NaN when never evaluated).
        last_loss: validation loss after the last step (NaN when never evaluated).
        peak_memory_mb: of the process (CPU) or the device.
    """

    steps: int
    samples: int
    seconds: float
    best_loss: float
    last_loss: float
    peak_memory_mb: float


@dataclass
class _Progress:
    """How far training is; part of every checkpoint."""

    step: int = 0
    seconds: float = 0.0
    best_loss: float = math.nan
    last_loss: float = math.nan


class _Clock:
    """Adds the time that passes to `progress.seconds`, and measures steps per second."""

    def __init__(self, progress: _Progress) -> None:
        self.progress = progress
        self.stamped = self.lapped = time.perf_counter()
        self.lap_step = progress.step

    def stamp(self) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self.stamped
        self.stamped = now

    def lap(self) -> float:
        """Steps per second since the last call."""
        now = time.perf_counter()
        rate = (self.progress.step - self.lap_step) / (now - self.lapped)
        self.lapped, self.lap_step = now, self.progress.step
        return rate


class Trainer:
    """Trains an objective for `max_steps` optimizer steps, resuming where it was stopped.

    Args:
        max_steps: optimizer steps.
        batch_size: examples per optimizer step, over all devices and micro-batches.
        accumulate: micro-batches per optimizer step and device; the gradient is that of the
            whole batch whatever their number (denominators are counted over the whole batch).
        gradient_clip: maximum gradient norm; 0 does not clip.
        evaluate_every: steps between validation losses.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of metrics.jsonl.
        precision, accelerator, devices, num_nodes, strategy: as Lightning Fabric takes them.
        num_threads: CPU threads; 0 leaves torch's default.
        compile: run the objective through torch.compile.
        progress: show a progress bar.
    """

    def __init__(
        self,
        max_steps: int,
        batch_size: int,
        accumulate: int,
        gradient_clip: float,
        evaluate_every: int,
        checkpoint_every: int,
        log_every: int,
        precision: str,
        accelerator: str,
        devices: int | str,
        num_nodes: int,
        strategy: str,
        num_threads: int,
        compile: bool,
        progress: bool,
    ) -> None:
        for name, value in (
            ("max_steps", max_steps),
            ("batch_size", batch_size),
            ("accumulate", accumulate),
            ("evaluate_every", evaluate_every),
            ("checkpoint_every", checkpoint_every),
            ("log_every", log_every),
        ):
            if value < 1:
                raise UsageError(f"trainer.{name} is {value}: it must be at least 1")
        if num_threads:
            torch.set_num_threads(num_threads)
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.gradient_clip = gradient_clip
        self.evaluate_every = evaluate_every
        self.checkpoint_every = checkpoint_every
        self.log_every = log_every
        self.compile = compile
        self.progress = progress
        self.fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=_strategy(strategy),
            precision=precision,  # type: ignore[arg-type]
        )
        self.fabric.launch()
        shares = self.fabric.world_size * accumulate
        if batch_size % shares:
            raise UsageError(
                f"trainer.batch_size={batch_size} does not divide into {self.fabric.world_size} "
                f"device(s) x trainer.accumulate={accumulate}: use a multiple of {shares}"
            )

    def fit(
        self,
        objective: Any,
        make_optimizer: Callable[..., torch.optim.Optimizer],
        make_scheduler: Callable[..., Any],
        batches: Batches,
        folder: Path,
        log: Callable[[dict[str, float], int], None],
        probe: Callable[[], dict[str, float]] | None = None,
        probe_every: int = 1,
    ) -> TrainingResult:
        """Train `objective` in place: called with (batch, counts) it gives (total, terms), and its
        `counts(batch)` are the positions that each term is a mean over.

        `folder` receives metrics.jsonl, last.ckpt and best.ckpt (lowest validation loss); an
        existing last.ckpt is resumed from. `log(metrics, step)` is called on rank 0, and so is
        `probe()` every `probe_every` steps and after the last: what it returns is written to
        metrics.jsonl. It must draw no random numbers and leave the model as it was.

        Raises:
            UsageError: there is a probe and the strategy leaves rank 0 a part of the model only.
            Stopped: a signal came; the state is saved.
            RunError: a loss is not finite, or a checkpoint cannot be written or read.
        """
        fabric = self.fabric
        if probe is not None and isinstance(fabric.strategy, FSDPStrategy):
            raise UsageError("a probe needs the whole model: trainer.strategy=ddp, or no probe")
        compiled = torch.compile(objective) if self.compile else objective
        module = fabric.setup_module(compiled)  # type: ignore[arg-type]
        optimizer: Any = fabric.setup_optimizers(make_optimizer(module))
        scheduler = make_scheduler(optimizer, max_steps=self.max_steps)
        state = {"module": module, "optimizer": optimizer, "scheduler": scheduler}
        progress = self._resume(folder / "last.ckpt", state)
        records = Records(folder / "metrics.jsonl", progress.step, log, fabric.is_global_zero)
        clock = _Clock(progress)
        broken = FirstNonFinite(fabric)

        def save(name: str) -> None:
            broken.check(batches)
            self._values(terms, progress.step)  # no checkpoint of a broken model
            clock.stamp()
            full = {**state, "progress": asdict(progress), "random": self._random_states()}
            save_checkpoint(fabric, folder / name, full)

        def due(every: int) -> bool:
            return progress.step % every == 0 or progress.step == self.max_steps

        with StopSignals() as signals, self._bar(progress.step) as bar, records:
            while progress.step < self.max_steps:
                terms = self._step(module, objective, optimizer, batches, progress.step)
                rate = optimizer.param_groups[0]["lr"]
                scheduler.after_step()
                progress.step += 1
                broken.note(terms["train/loss"], progress.step)
                bar.update()
                if due(self.log_every):
                    broken.check(batches)
                    values = self._values(terms, progress.step)
                    speed = clock.lap() * self.batch_size
                    values |= {"lr": rate, "train/samples_per_s": speed}
                    records.write(values, progress.step)
                    bar.set_postfix_str(
                        f"loss {values['train/loss']:.3f}, {speed:.0f} samples/s, "
                        f"{peak_memory_mb():.0f} MB",
                        refresh=False,
                    )
                if due(self.evaluate_every):
                    broken.check(batches)
                    values = self.validate(module, objective, batches, progress.step)
                    progress.last_loss = values["validation/loss"]
                    scheduler.after_evaluation(progress.last_loss)
                    records.write(values, progress.step)
                    if not progress.last_loss >= progress.best_loss:  # NaN before the first
                        progress.best_loss = progress.last_loss
                        save("best.ckpt")
                if probe is not None and fabric.is_global_zero and due(probe_every):
                    records.write(probe(), progress.step)
                if due(self.checkpoint_every):
                    save("last.ckpt")
                if self._stop_everywhere(signals) and progress.step < self.max_steps:
                    save("last.ckpt")
                    signals.act(progress.step)
        clock.stamp()
        return TrainingResult(
            steps=progress.step,
            samples=progress.step * self.batch_size,
            seconds=progress.seconds,
            best_loss=progress.best_loss,
            last_loss=progress.last_loss,
            peak_memory_mb=peak_memory_mb(),
        )

    def _resume(self, path: Path, state: dict[str, Any]) -> _Progress:
        """Restore `state` and the random generators from a checkpoint, where there is one."""
        if not path.exists():
            return _Progress()
        rest = load_checkpoint(self.fabric, path, state)
        states = rest["random"]  # perhaps of fewer ranks
        set_random_state(states[self.fabric.global_rank % len(states)])
        return _Progress(**rest["progress"])

    def _random_states(self) -> list[dict[str, Any]]:
        """One per rank."""
        states: list[Any] = [random_state()]
        if self.fabric.world_size > 1:
            states = [None] * self.fabric.world_size
            torch.distributed.all_gather_object(states, random_state())
        return states

    def _bar(self, step: int) -> tqdm:
        return tqdm(
            total=self.max_steps,
            initial=step,
            disable=not (self.progress and self.fabric.is_global_zero),
            unit="step",
            dynamic_ncols=True,
            mininterval=0.5 if os.isatty(2) else 30.0,
        )

    def _step(
        self, module: Any, objective: Any, optimizer: Any, batches: Batches, step: int
    ) -> dict[str, Tensor]:
        """One optimizer step; returns the terms of this rank's share of the batch."""
        fabric = self.fabric
        share = batches.train(step, fabric.global_rank, fabric.world_size, self.accumulate)
        parts = [part.to(fabric.device) for part in share]
        counts = self._counts(objective, parts)
        sums: dict[str, Tensor] = {}
        for index, part in enumerate(parts):
            with fabric.no_backward_sync(module, enabled=index < len(parts) - 1):
                with named(lambda: f"the batch of step {step + 1} ({batches.describe(step)})"):
                    total, terms = module(part, counts)
                fabric.backward(total)
            _add(sums, {"loss": total, **terms}, "train/")
        if self.gradient_clip:
            norm = fabric.clip_gradients(
                module, optimizer, max_norm=self.gradient_clip, error_if_nonfinite=False
            )
            if norm is not None:
                sums["train/gradient_norm"] = norm
        optimizer.step()
        optimizer.zero_grad()
        return sums

    def _counts(self, objective: Any, parts: list[Any]) -> dict[str, Tensor] | None:
        """The denominators of the whole batch. Devices average their gradients, so each divides
        by the global count over the number of devices."""
        ranks = self.fabric.world_size
        if len(parts) == 1 and ranks == 1:
            return None
        counts: dict[str, Tensor] = {}
        for part in parts:
            _add(counts, objective.counts(part))
        if ranks > 1:
            counts = {name: self._mean_over_ranks(count) for name, count in counts.items()}
        return counts

    def _stop_everywhere(self, signals: StopSignals) -> bool:
        """Ranks must stop at the same step, whichever of them got the signal."""
        if self.fabric.world_size == 1:
            return signals.received is not None
        got = torch.tensor(float(signals.received or 0), device=self.fabric.device)
        largest = int(self.fabric.all_reduce(got, reduce_op="max"))  # type: ignore[arg-type]
        signals.received = largest or None
        return largest > 0

    def _mean_over_ranks(self, value: Tensor) -> Tensor:
        reduced = self.fabric.all_reduce(value.float(), reduce_op="mean")
        assert isinstance(reduced, Tensor)
        return reduced

    def _values(self, sums: dict[str, Tensor], step: int) -> dict[str, float]:
        """Terms averaged over ranks, as finite numbers."""
        if self.fabric.world_size > 1:
            sums = {name: self._mean_over_ranks(value) for name, value in sums.items()}
        values = {name: value.item() for name, value in sums.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise RunError(
                    f"{name} is {value} at step {step}: lower optimizer.lr, set "
                    "trainer.gradient_clip=1.0, or start again from the last checkpoint"
                )
        return values

    @torch.no_grad()
    def validate(
        self, module: Any, objective: Any, batches: Batches, step: int
    ) -> dict[str, float]:
        """Mean loss terms over the validation split, each over all of its own positions."""
        fabric = self.fabric
        module.eval()
        parts = batches.validation(fabric.global_rank, fabric.world_size)
        parts = [part.to(fabric.device) for part in parts]
        counts = self._counts(objective, parts)
        sums: dict[str, Tensor] = {}
        for part in parts:
            with named(lambda: "a batch of the validation split"):
                total, terms = module(part, counts)
            _add(sums, {"loss": total, **terms}, "validation/")
        module.train()
        return self._values(sums, step)


def _add(sums: dict[str, Tensor], values: dict[str, Tensor], prefix: str = "") -> None:
    for name, value in values.items():
        key = f"{prefix}{name}"
        sums[key] = sums[key] + value.detach() if key in sums else value.detach()


def _strategy(name: str) -> str | Strategy:
    # One file holds the whole model, so that a checkpoint does not depend on the device count.
    return FSDPStrategy(state_dict_type="full") if name == "fsdp" else name
