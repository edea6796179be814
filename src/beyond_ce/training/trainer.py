"""The only training loop. It knows no loss, data set, head or model by name."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning_fabric.strategies import FSDPStrategy
from torch import Tensor
from torch.optim import Optimizer
from tqdm import tqdm

from beyond_ce.errors import RunError, UsageError
from beyond_ce.processes.ranks import launch, make_fabric
from beyond_ce.settings import COUNT, FLAG, TEXT, each, number, one_of, takes, whole
from beyond_ce.training import sharding
from beyond_ce.training.allocator import keep_freed_memory
from beyond_ce.training.checkpoint import draw_apart, random_state, resume, save_checkpoint
from beyond_ce.training.faults import FirstNonFinite, naming_batch
from beyond_ce.training.objective import Objective
from beyond_ce.training.records import Records, peak_memory_mb
from beyond_ce.training.session import Batches, Clock, Progress, Scheduler, Session
from beyond_ce.training.stopping import StopSignals

if TYPE_CHECKING:
    from beyond_ce.batches.batch import Batch


@dataclass
class TrainingResult:
    """Summary of a finished training run.

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


def _devices(value: Any) -> str | None:
    """A number of devices, -1 or "auto" for all, or a list of their indices; see Fabric."""
    if isinstance(value, int):
        return None if value == -1 else whole(1, 2**16)(value)
    listed = isinstance(value, str) and re.fullmatch(r"-1|\d+(,\s*\d+)*,?", value)
    if value == "auto" or listed or each(whole(0, 2**16))(value) is None:
        return None
    return 'give a whole number of at least 1, "auto", or a list of indices'


class Trainer:
    """Trains an objective for `max_steps` optimizer steps, resuming where it was stopped.

    Args:
        max_steps: optimizer steps; 0 to evaluate what the run starts from as it is.
        batch_size: examples per optimizer step, over all devices and micro-batches.
        accumulate: micro-batches per optimizer step and device. The gradient does not depend on
            it, as denominators are counted over the whole batch.
        gradient_clip: maximum gradient norm; 0 does not clip.
        evaluate_every: steps between validation losses.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of metrics.jsonl.
        precision, accelerator, devices, num_nodes, strategy: as Lightning Fabric takes them.
        num_threads: CPU threads; 0 leaves torch's default.
        compile: run the objective through torch.compile.
        progress: show a progress bar.
    """

    @takes(
        "trainer",
        max_steps=whole(0),
        batch_size=COUNT,
        accumulate=COUNT,
        gradient_clip=number(0),
        evaluate_every=COUNT,
        checkpoint_every=COUNT,
        log_every=COUNT,
        precision=one_of("32-true", "bf16-mixed", "bf16-true", "64-true"),
        accelerator=TEXT,
        devices=_devices,
        num_nodes=whole(1, 2**16),
        strategy=TEXT,
        num_threads=whole(0, 2**16),
        compile=FLAG,
        progress=FLAG,
    )
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
        keep_freed_memory()
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
        self.fabric = make_fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=sharding.strategy(strategy),
            precision=precision,
        )
        launch(self.fabric)
        shares = self.fabric.world_size * accumulate
        if batch_size % shares:
            raise UsageError(
                f"trainer.batch_size={batch_size} does not divide into {self.fabric.world_size} "
                f"device(s) x trainer.accumulate={accumulate}: use a multiple of {shares}"
            )

    def fit(
        self,
        objective: Objective,
        make_optimizer: Callable[..., Optimizer],
        make_scheduler: Callable[..., Scheduler],
        batches: Batches,
        folder: Path,
        log: Callable[[dict[str, float], int], None],
        probe: Callable[[], dict[str, float]] | None = None,
        probe_every: int = 1,
        keep_evaluated: bool = False,
    ) -> TrainingResult:
        """Train `objective` in place. `objective(batch, counts)` returns (total, terms), and
        `objective.counts(batch)` the number of positions that each term is a mean over.

        `folder` receives metrics.jsonl, last.ckpt and best.ckpt (lowest validation loss); an
        existing last.ckpt is resumed. Rank 0 calls `log(metrics, step)`, and `probe()` every
        `probe_every` steps and after the last; its result joins metrics.jsonl. It must not draw
        random numbers or change the model. `keep_evaluated` keeps step-<step>.ckpt of evaluations.

        Raises:
            UsageError: there is a probe, and the strategy gives each rank only a part of the model.
            Stopped: a signal came; the state is saved.
            RunError: a loss is not finite, or a checkpoint cannot be written or read.
        """
        if probe is not None and isinstance(self.fabric.strategy, FSDPStrategy):
            raise UsageError(
                "a probe needs the whole model: set trainer.strategy=ddp, or give ~probe"
            )
        session = self._start(objective, make_optimizer, make_scheduler, batches, folder, log)
        session.keep_evaluated = keep_evaluated
        progress, records = session.progress, session.records
        with StopSignals() as signals, self._bar(progress.step) as bar, records:
            if not self.max_steps:
                self._evaluate(session)
                self._save(session, "last.ckpt")
            while progress.step < self.max_steps:
                self._step(session)
                bar.update()
                if self._due(self.log_every, progress):
                    self._log(session, bar)
                if self._due(self.evaluate_every, progress):
                    self._evaluate(session)
                if probe and self.fabric.is_global_zero and self._due(probe_every, progress):
                    records.write(probe(), progress.step)
                if self._due(self.checkpoint_every, progress):
                    self._save(session, "last.ckpt")
                if self._stop_requested(signals) and progress.step < self.max_steps:
                    self._save(session, "last.ckpt")
                    signals.pass_on(progress.step)
            if self._stop_requested(signals):  # during the last step: scoring may take hours
                signals.pass_on(progress.step)
        session.clock.update()
        return TrainingResult(
            steps=progress.step,
            samples=progress.step * self.batch_size,
            seconds=progress.seconds,
            best_loss=progress.best_loss,
            last_loss=progress.last_loss,
            peak_memory_mb=peak_memory_mb(),
        )

    def _start(
        self,
        objective: Objective,
        make_optimizer: Callable[..., Optimizer],
        make_scheduler: Callable[..., Scheduler],
        batches: Batches,
        folder: Path,
        log: Callable[[dict[str, float], int], None],
    ) -> Session:
        """Set up what `fit` was given, and resume from `last.ckpt` if it exists."""
        fabric = self.fabric
        compiled = cast(Objective, torch.compile(objective)) if self.compile else objective
        # The optimizer is made first: FSDP's pieces of matrices are flat, and would not be decayed.
        module, optimizer = fabric.setup(compiled, make_optimizer(objective))
        scheduler = make_scheduler(optimizer, max_steps=self.max_steps)
        state = {"module": module, "optimizer": optimizer, "scheduler": scheduler}
        progress = self._resume(folder / "last.ckpt", state)
        return Session(
            objective=objective,
            module=module,
            optimizer=optimizer,
            scheduler=scheduler,
            state=state,
            batches=batches,
            folder=folder,
            progress=progress,
            records=Records(
                folder / "metrics.jsonl", progress.step, log, fabric.is_global_zero, progress.lines
            ),
            clock=Clock(progress),
            non_finite=FirstNonFinite(fabric),
        )

    def _resume(self, path: Path, state: dict[str, Any]) -> Progress:
        """Restore `state` and the random generators from a checkpoint, if it exists."""
        if not path.exists():
            draw_apart(self.fabric.global_rank)
            return Progress()
        return resume(self.fabric, path, state)

    def _due(self, every: int, progress: Progress) -> bool:
        """Whether the step is a multiple of `every`, or the last."""
        return progress.step % every == 0 or progress.step == self.max_steps

    def _log(self, session: Session, bar: tqdm) -> None:
        """Log the last step's terms and the speed."""
        step = session.progress.step
        session.non_finite.check(session.batches.describe)
        values = self._finite_values(session.terms, step)
        speed = session.clock.lap() * self.batch_size
        values |= {"lr": session.rate, "train/samples_per_s": speed}
        session.records.write(values, step)
        bar.set_postfix_str(
            f"loss {values['train/loss']:.3f}, {speed:.0f} samples/s, {peak_memory_mb():.0f} MB",
            refresh=False,
        )

    def _evaluate(self, session: Session) -> None:
        """Compute the validation loss, and save the model if it is the best so far."""
        progress = session.progress
        session.non_finite.check(session.batches.describe)
        values = self._validate(session)
        progress.last_loss = values["validation/loss"]
        session.scheduler.after_evaluation(progress.last_loss)
        session.records.write(values, progress.step)
        if not progress.last_loss >= progress.best_loss:  # NaN before the first
            progress.best_loss = progress.last_loss
            self._save(session, "best.ckpt")
        if session.keep_evaluated:
            weights = {"module": session.module, "progress": asdict(progress)}
            save_checkpoint(self.fabric, session.folder / f"step-{progress.step}.ckpt", weights)

    def _save(self, session: Session, name: str) -> None:
        """Write a checkpoint to resume from, but never with a loss that is not finite."""
        session.non_finite.check(session.batches.describe)
        self._finite_values(session.terms, session.progress.step)
        session.clock.update()
        session.progress.lines = session.records.flush()
        progress = asdict(session.progress)
        full = {**session.state, "progress": progress, "random": self._random_states()}
        save_checkpoint(self.fabric, session.folder / name, full)

    def _random_states(self) -> list[dict[str, Any]]:
        """The random state of every rank."""
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

    def _step(self, session: Session) -> None:
        """One optimizer step."""
        fabric, progress, batches = self.fabric, session.progress, session.batches
        module, optimizer, step = session.module, session.optimizer, progress.step
        share = batches.train(step, fabric.global_rank, fabric.world_size, self.accumulate)
        parts = [part.to(fabric.device) for part in share]
        counts = self._counts(session.objective, parts)
        sums: dict[str, Tensor] = {}
        for index, part in enumerate(parts):
            # FSDP would keep a whole gradient on each device, and sum it in half precision.
            apart = index < len(parts) - 1 and not isinstance(fabric.strategy, FSDPStrategy)
            with fabric.no_backward_sync(module, enabled=apart):
                with naming_batch(
                    lambda: f"the batch of step {step + 1} ({batches.describe(step)})"
                ):
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
        session.terms, session.rate = sums, optimizer.param_groups[0]["lr"]
        session.scheduler.after_step()
        progress.step += 1
        session.non_finite.record(sums["train/loss"], progress.step)

    def _counts(self, objective: Objective, parts: list[Batch]) -> dict[str, Tensor] | None:
        """The denominators of the whole batch. Devices average their gradients, so each device
        divides by the global count / the number of devices."""
        ranks = self.fabric.world_size
        if len(parts) == 1 and ranks == 1:
            return None
        counts: dict[str, Tensor] = {}
        for part in parts:
            _add(counts, objective.counts(part))
        if ranks > 1:
            counts = {name: self._mean_over_ranks(count) for name, count in counts.items()}
        return counts

    def _stop_requested(self, signals: StopSignals) -> bool:
        """Whether any rank got a signal; all ranks must stop at the same step."""
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

    def _finite_values(self, sums: dict[str, Tensor], step: int) -> dict[str, float]:
        """Terms averaged over ranks; raises a RunError if one is not finite."""
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
    def _validate(self, session: Session) -> dict[str, float]:
        """Mean loss terms over the validation split, each over all of its own positions."""
        fabric, module = self.fabric, session.module
        module.eval()
        parts = session.batches.validation(fabric.global_rank, fabric.world_size)
        parts = [part.to(fabric.device) for part in parts]
        counts = self._counts(session.objective, parts)
        sums: dict[str, Tensor] = {}
        for part in parts:
            with naming_batch(lambda: "a batch of the validation split"):
                total, terms = module(part, counts)
            _add(sums, {"loss": total, **terms}, "validation/")
        module.train()
        return self._finite_values(sums, session.progress.step)


def _add(sums: dict[str, Tensor], values: dict[str, Tensor], prefix: str = "") -> None:
    for name, value in values.items():
        key = f"{prefix}{name}"
        sums[key] = sums[key] + value.detach() if key in sums else value.detach()
