"""One run, from a config to a report: prepares the data, trains, evaluates, writes down."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

from beyond_ce.assembly import build_objective, load_model, load_run
from beyond_ce.compatibility import check_parts
from beyond_ce.configuration import build, check, reconfigure, run_folder
from beyond_ce.data.numbers import last_number, number_value, plain
from beyond_ce.data.packed import PackedTokens
from beyond_ce.errors import RunError, UsageError
from beyond_ce.evaluation import Evaluator, NumberAnswers, Subject
from beyond_ce.evaluation.baselines import Baseline
from beyond_ce.evaluation.evaluator import spread
from beyond_ce.models import LanguageModel
from beyond_ce.preparation import Prepared, prepare
from beyond_ce.reporting.run_store import (
    is_done,
    open_run,
    provenance,
    read_config,
    write_atomically,
    write_report,
)
from beyond_ce.training import Trainer
from beyond_ce.training.batches import PromptAnswerBatches
from beyond_ce.training.packed_batches import PackedBatches
from beyond_ce.training.records import peak_memory_mb, read_records
from beyond_ce.training.trainer import Batches


def run(config: DictConfig) -> Path:
    """Train and evaluate what `config` describes; returns the run's folder.

    A finished run is skipped, an interrupted one goes on where it was.

    Raises:
        UsageError: the config asks for something that cannot be.
        RunError: something broke on the way, or the run was stopped by a signal.
    """
    check(config)
    check_parts(config)
    folder = run_folder(config)
    if is_done(folder):
        return folder
    if "baseline" in config:
        return _run_baseline(config, folder)
    start = time.perf_counter()
    trainer: Trainer = build(config.trainer, "trainer")  # starts the other ranks, if any
    primary = trainer.fabric.is_global_zero
    # One rank holds the folder for all of them, and is the only one to write.
    with open_run(config) if primary else nullcontext():
        evaluator = build(config.evaluator, "evaluator")
        trainer.fabric.seed_everything(config.seed, verbose=False)
        with trainer.fabric.rank_zero_first():  # the others then find it in the cache
            prepared = prepare(config)
        objective = build_objective(config, prepared.tokenizer)
        probe = build(config.probe, "probe") if "probe" in config else None
        probing: dict[str, Any] = {}
        if probe is not None:
            sample = probe.sample(prepared.splits, prepared.test_splits)
            subject = Subject(objective.model, prepared.tokenizer, trainer.fabric.device)
            measure = partial(probe.measure, evaluator, subject, sample)
            probing = {"probe": measure, "probe_every": probe.every}
        logger = build(config.logger, "logger")
        if primary:
            prepared.tokenizer.save(folder / "tokenizer")
            logger.start(folder, OmegaConf.to_container(config, resolve=True))
        prepared_at = time.perf_counter()
        result = trainer.fit(
            objective,
            make_optimizer=build(config.optimizer, "optimizer"),
            make_scheduler=build(config.scheduler, "scheduler"),
            batches=_batches(objective.model, prepared, trainer, config.seed),
            folder=folder,
            log=logger.log,
            **probing,
        )
        trained_at = time.perf_counter()
        with trainer.fabric.rank_zero_first():  # a barrier without a time-out for the others
            if primary:
                checkpoint = folder / f"{config.evaluate_checkpoint}.ckpt"
                model, _ = load_model(config, prepared.tokenizer, checkpoint)
                metrics = {
                    "validation/loss": result.last_loss,
                    "validation/best_loss": result.best_loss,
                    **evaluate(model, evaluator, prepared, folder, trainer.fabric.device),
                }
                if probe is not None:
                    # From the file, which has the probes before an interruption as well.
                    records = read_records(folder / "metrics.jsonl")
                    steps_per_epoch = len(prepared.train) / trainer.batch_size
                    metrics |= probe.summary(records, sample["task"], steps_per_epoch)
                logger.finish(metrics)
                report = {
                    **_report(config, metrics, prepared.fingerprint),
                    "parameters": sum(p.numel() for p in model.parameters()),
                    "steps": result.steps,
                    "samples": result.samples,
                    "train_s": result.seconds,
                    # training before an interruption included, its preparation not
                    "wall_clock_s": result.seconds
                    + (prepared_at - start)
                    + (time.perf_counter() - trained_at),
                    "peak_memory_mb": result.peak_memory_mb,
                    "wandb_id": logger.id,
                }
                write_report(folder, report)
    return folder


def _batches(model: LanguageModel, prepared: Prepared, trainer: Trainer, seed: int) -> Batches:
    data = prepared.train, prepared.validation, trainer.batch_size, seed
    if isinstance(prepared.train, PackedTokens):
        # Rows are long: as many at once as of a training step, which fit the device.
        part = trainer.batch_size // (trainer.fabric.world_size * trainer.accumulate)
        return PackedBatches(model, *data, validation_batch_size=part)
    return PromptAnswerBatches(model, *data)


def _report(config: DictConfig, metrics: dict[str, float], data: str) -> dict[str, Any]:
    """What report.json holds of any run: its metrics, its definition and where it comes from."""
    return {
        "run": run_folder(config).name,
        "metrics": metrics,
        "seed": config.seed,
        "scale": config.scale,
        "config": OmegaConf.to_container(config, resolve=True),
        "data": data,
        **provenance(),
        "finished_at": datetime.datetime.now(datetime.timezone.utc).isoformat(),
    }


def _run_baseline(config: DictConfig, folder: Path) -> Path:
    """Fit and score the config's baseline on the splits that a model would have; no checkpoint."""
    start = time.perf_counter()
    with open_run(config):
        baseline: Baseline = build(config.baseline, "baseline")
        evaluator: NumberAnswers = build(config.evaluator, "evaluator")
        data = build(config.dataset, "dataset")
        splits = data.load()
        train = splits["train"]
        targets = np.array([number_value(last_number(answer)) for answer in train["answer"]])
        if np.isnan(targets).any():
            raise UsageError(
                f"dataset {data.name} has answers without a number, for which "
                f"{type(baseline).__name__} is not made: leave out baseline="
            )
        parameters = baseline.fit(list(train["prompt"]), targets)
        fitted_at = time.perf_counter()
        metrics: dict[str, float] = {}
        for split in data.test_splits:
            examples = spread(splits[split], evaluator.max_examples)
            answers = baseline.predict(list(examples["prompt"]))
            frame = examples.select_columns(["prompt", "answer", "task"]).to_pandas()
            found = evaluator.judge(frame.assign(prediction=[plain(each) for each in answers]))
            _keep(found.metrics, found.predictions, folder / "evaluation" / f"{split}.json")
            metrics |= {f"{split}/{name}": value for name, value in found.metrics.items()}
        report = {
            **_report(config, metrics, data.fingerprint()),
            "parameters": parameters,
            "steps": 0,
            "samples": len(train),
            "train_s": fitted_at - start,
            "wall_clock_s": time.perf_counter() - start,
            "peak_memory_mb": peak_memory_mb(),
            "wandb_id": None,
        }
        write_report(folder, report)
    return folder


def evaluate(
    model: LanguageModel,
    evaluator: Evaluator,
    prepared: Prepared,
    folder: Path,
    device: torch.device,
) -> dict[str, float]:
    """Metrics `<split>/<metric>` on every test split.

    Each split's metrics and predictions are kept as evaluation/<split>.json and .parquet, so
    that a run interrupted between two splits does not evaluate the first again.
    """
    subject = Subject(model, prepared.tokenizer, device)
    metrics: dict[str, float] = {}
    for split in prepared.test_splits:
        path = folder / "evaluation" / f"{split}.json"
        if not path.exists():
            found = evaluator(subject, prepared.splits[split])
            _keep(found.metrics, found.predictions, path)
        values = json.loads(path.read_text())
        metrics.update({f"{split}/{name}": value for name, value in values.items()})
    return metrics


def evaluate_again(
    folder: Path, checkpoint: str, splits: Sequence[str], overrides: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Metrics of each split for a trained run, with other settings of its evaluator, say.

    They are kept with the predictions in evaluation/<split>-<checkpoint>-<overrides>.json and
    .parquet; what the run itself evaluated and reported stays.

    Args:
        folder: of a run, finished or not.
        checkpoint: last or best.
        splits: none for the test splits.
        overrides: `evaluator.num_beams=4`, or `key=value` of what does not define the run,
            such as `cache_dir`.

    Raises:
        UsageError: there is no such run, checkpoint, split or override.
    """
    config = reconfigure(read_config(folder), overrides, "evaluator")
    model, tokenizer, step = load_run(folder, checkpoint)
    one_device = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
    device = build(config.trainer, "trainer", **one_device).fabric.device
    evaluator = build(config.evaluator, "evaluator")
    data = build(config.dataset, "dataset")
    examples = data.load()
    unknown = [split for split in splits if split not in examples]
    if unknown:
        raise UsageError(f"there is no split '{unknown[0]}'; known: {', '.join(examples)}")
    settings = [o.removeprefix("evaluator.") for o in overrides if o.startswith("evaluator.")]
    name = "-".join([checkpoint, *sorted(settings)])
    metrics = {}
    for split in splits or data.test_splits:
        found = evaluator(Subject(model, tokenizer, device), examples[split])
        metrics[split] = found.metrics
        report = {
            "run": folder.name,
            "split": split,
            "checkpoint": checkpoint,
            "step": step,
            "evaluator": OmegaConf.to_container(config.evaluator),
            "metrics": found.metrics,
            **provenance(),
        }
        _keep(report, found.predictions, folder / "evaluation" / f"{split}-{name}.json")
    return metrics


def _keep(values: dict[str, Any], predictions: pd.DataFrame, path: Path) -> None:
    """Values at `path` and predictions beside it; the values come last, and say both are whole."""
    table = path.with_suffix(".parquet")
    try:
        path.parent.mkdir(exist_ok=True)
        predictions.to_parquet(table, index=False)
    except OSError as error:
        raise RunError(
            f"cannot write {table}: {error}; start the same command again to go on"
        ) from error
    write_atomically(path, json.dumps(values, indent=2))
