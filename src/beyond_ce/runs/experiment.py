"""One run, from a config to a report: prepares the data, trains, scores, writes the report."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from lightning_fabric.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from beyond_ce.batches.endless import EndlessBatches, EndlessTokens
from beyond_ce.batches.packed import PackedBatches
from beyond_ce.batches.packed_tokens import PackedTokens
from beyond_ce.batches.prompt_answer import PromptAnswerBatches
from beyond_ce.configuration import build, check
from beyond_ce.evaluation import Evaluator, Subject
from beyond_ce.evaluation.probe import TrainingProbe
from beyond_ce.models import LanguageModel
from beyond_ce.runs.assembly import build_objective, load_model
from beyond_ce.runs.baseline import run_baseline
from beyond_ce.runs.checks import check_settings, try_parts
from beyond_ce.runs.compatibility import check_parts
from beyond_ce.runs.identity import run_folder
from beyond_ce.runs.inputs import check_prepared, is_finished, record_inputs
from beyond_ce.runs.preparation import Prepared, prepare
from beyond_ce.runs.report import now, report_head
from beyond_ce.runs.scoring import score, select
from beyond_ce.runs.selection import ByMetric
from beyond_ce.runs.source import check_source, start_weights
from beyond_ce.runs.start import with_source
from beyond_ce.runs.store import is_done, open_run, write_report
from beyond_ce.training import Trainer, TrainingResult
from beyond_ce.training.objective import Objective
from beyond_ce.training.records import read_records
from beyond_ce.training.session import Batches


def train(config: DictConfig) -> Path:
    """Train what `config` describes to the end; `run` then goes on with the scores.

    Raises:
        UsageError, RunError: as `run`.
    """
    return run(config, scored=False)


def run(config: DictConfig, scored: bool = True) -> Path:
    """Train and evaluate what `config` describes; returns the run's folder.

    A finished run is skipped, an interrupted one continues where it stopped; both only if what it
    read is still the same.

    Raises:
        UsageError: the config asks for something that cannot be done, or the run in its folder read
            other data or weights.
        RunError: something broke during the run, or a signal stopped it.
    """
    check(config)
    check_settings(config)
    config = with_source(config)
    check_parts(config)
    folder = run_folder(config)
    if is_finished(config):
        rank_zero_only(print)(f"{folder} is finished: skipped")
        return folder
    try_parts(config)
    check_source(config)
    if "baseline" in config:
        return run_baseline(config)
    start = time.perf_counter()
    trainer: Trainer = build(config.trainer, "trainer")  # starts the other ranks, if any
    primary = trainer.fabric.is_global_zero
    # One rank locks the folder for all of them, and is the only one to write.
    with open_run(config) if primary else nullcontext():
        if trainer.fabric.broadcast(primary and is_done(folder)):
            rank_zero_only(print)(f"{folder} was finished by another process: skipped")
            return folder
        inputs = record_inputs(config, folder) if primary else {}
        parts = _assemble(config, trainer)
        if primary:
            check_prepared(inputs, parts.prepared.fingerprint)
            parts.prepared.tokenizer.save(folder / "tokenizer")
            parts.logger.start(folder, OmegaConf.to_container(config, resolve=True))
        preparation_s = time.perf_counter() - start
        result = _train(config, trainer, parts, folder)
        if not scored:
            parts.logger.finish({})
            return folder
        start = time.perf_counter()
        with trainer.fabric.rank_zero_first():  # a barrier without a time-out for the others
            if primary:
                model, metrics = _score(config, trainer, parts, result, folder)
                parts.logger.finish(metrics)
                # includes training before an interruption, but not the preparation for it
                wall_clock_s = result.seconds + preparation_s + time.perf_counter() - start
                report = _report(config, parts, result, model, metrics, wall_clock_s)
                write_report(folder, {**report, "inputs": inputs})
    return folder


@dataclass(frozen=True)
class _Parts:
    """The parts of a run, besides its trainer.

    Attributes:
        probe: with its sample of the examples; None for a run without a probe.
        selection: chooses the checkpoint to score; None for `evaluate_checkpoint`.
    """

    evaluator: Evaluator
    prepared: Prepared
    objective: Objective
    probe: tuple[TrainingProbe, datasets.Dataset] | None
    selection: ByMetric | None
    logger: Any


def _assemble(config: DictConfig, trainer: Trainer) -> _Parts:
    """Builds all parts; every rank builds its own, from the same seed."""
    evaluator: Evaluator = build(config.evaluator, "evaluator")
    trainer.fabric.seed_everything(config.seed, verbose=False)
    with trainer.fabric.rank_zero_first():  # the others then find it in the cache
        prepared = prepare(config)
    # Again, as data that a model writes are made only once, and loading it draws random numbers.
    trainer.fabric.seed_everything(config.seed, verbose=False)
    objective = build_objective(config, prepared.tokenizer)
    start_weights(objective.model, config)
    objective.started()
    probe = None
    if "probe" in config:
        built: TrainingProbe = build(config.probe, "probe")
        probe = built, built.sample(prepared.splits, prepared.test_splits)
    selection = build(config.selection, "selection") if "selection" in config else None
    logger = build(config.logger, "logger")
    return _Parts(evaluator, prepared, objective, probe, selection, logger)


def _train(config: DictConfig, trainer: Trainer, parts: _Parts, folder: Path) -> TrainingResult:
    """Trains to the end, from the last checkpoint if there is one."""
    model: LanguageModel = parts.objective.model
    probing: dict[str, Any] = {}
    if parts.probe is not None:
        probe, sample = parts.probe
        subject = Subject(model, parts.prepared.tokenizer, trainer.fabric.device)
        measure = partial(probe.measure, parts.evaluator, subject, sample)
        probing = {"probe": measure, "probe_every": probe.every}
    return trainer.fit(
        parts.objective,
        make_optimizer=build(config.optimizer, "optimizer"),
        make_scheduler=build(config.scheduler, "scheduler"),
        batches=_batches(model, parts.prepared, trainer, config.seed),
        folder=folder,
        log=parts.logger.log,
        keep_evaluated=parts.selection is not None,
        **probing,
    )


def _batches(model: LanguageModel, prepared: Prepared, trainer: Trainer, seed: int) -> Batches:
    data = prepared.train, prepared.validation, trainer.batch_size, seed
    if isinstance(prepared.train, PackedTokens):
        # Rows are long: validate with training's micro-batches, which fit the device.
        part = trainer.batch_size // (trainer.fabric.world_size * trainer.accumulate)
        return PackedBatches(model, *data, validation_batch_size=part)
    if isinstance(prepared.train, EndlessTokens):
        return EndlessBatches(model, *data)
    return PromptAnswerBatches(model, *data)


def _score(
    config: DictConfig, trainer: Trainer, parts: _Parts, result: TrainingResult, folder: Path
) -> tuple[LanguageModel, dict[str, float]]:
    """The model of the checkpoint to evaluate, and all metrics of the run."""
    prepared = parts.prepared

    def load(checkpoint: Path) -> Subject:
        model, _ = load_model(config, prepared.tokenizer, checkpoint)
        return Subject(model, prepared.tokenizer, trainer.fabric.device)

    checkpoint = folder / f"{config.evaluate_checkpoint}.ckpt"
    steps_per_epoch = len(prepared.train) / trainer.batch_size
    chosen: dict[str, float] = {}
    if parts.selection is not None:
        step, checkpoint = select(parts.selection, load, parts.evaluator, prepared, folder)
        chosen = {"selected_step": float(step), "selected_epoch": step / steps_per_epoch}
    subject = load(checkpoint)
    metrics = {
        "validation/loss": result.last_loss,
        "validation/best_loss": result.best_loss,
        **score(subject, parts.evaluator, prepared, folder),
        **{f"{split}/{k}": value for split in prepared.test_splits for k, value in chosen.items()},
    }
    if parts.probe is not None:
        probe, sample = parts.probe
        # From the file, which also has the probes before an interruption.
        records = read_records(folder / "metrics.jsonl")
        metrics |= probe.summary(records, sample["task"], steps_per_epoch)
    return subject.model, metrics


def _report(
    config: DictConfig,
    parts: _Parts,
    result: TrainingResult,
    model: LanguageModel,
    metrics: dict[str, float],
    wall_clock_s: float,
) -> dict[str, Any]:
    """The content of report.json."""
    return {
        **report_head(config),
        "data": parts.prepared.fingerprint,
        "metrics": metrics,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": result.steps,
        "samples": result.samples,
        "train_s": result.seconds,
        "wall_clock_s": wall_clock_s,
        "peak_memory_mb": result.peak_memory_mb,
        **parts.evaluator.environment(),
        "wandb_id": parts.logger.id,
        "finished_at": now(),
    }
