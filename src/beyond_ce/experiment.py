"""One run, from a config to a report: prepares the data, trains, evaluates, writes down."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from omegaconf import DictConfig, OmegaConf

from beyond_ce.configuration import build, check, run_folder
from beyond_ce.errors import RunError
from beyond_ce.losses.objective import Objective
from beyond_ce.models import LanguageModel
from beyond_ce.reporting.run_store import (
    is_done,
    open_run,
    provenance,
    write_atomically,
    write_report,
)
from beyond_ce.tokenizers import Tokenizer
from beyond_ce.training import Trainer, load_checkpoint
from beyond_ce.training.batches import PromptAnswerBatches, tokenize


@dataclass
class Prepared:
    """What runs share: the splits as text, the training and validation splits as tokens, and the
    tokenizer. All of it is cached, so preparing it again is cheap."""

    splits: dict[str, datasets.Dataset]
    train: datasets.Dataset
    validation: datasets.Dataset
    test_splits: tuple[str, ...]
    tokenizer: Tokenizer


def prepare(config: DictConfig) -> Prepared:
    """Generate or read the data and fit the tokenizer, or find both in `cache_dir`.

    Calling it before several runs start keeps them from preparing the same things side by side.
    """
    data = build(config.dataset, "dataset")
    cache = Path(config.cache_dir)
    splits = data.load()
    key = data.fingerprint()
    tokenizer = build(config.tokenizer, "tokenizer").fit(_texts(splits["train"]), cache, key)
    return Prepared(
        splits=splits,
        train=tokenize(splits["train"], tokenizer, cache, f"{key}-train"),
        validation=tokenize(splits["validation"], tokenizer, cache, f"{key}-validation"),
        test_splits=data.test_splits,
        tokenizer=tokenizer,
    )


def _texts(split: datasets.Dataset) -> Iterator[str]:
    for rows in split.select_columns(["prompt", "answer"]).iter(batch_size=1000):
        yield from rows["prompt"]
        yield from rows["answer"]


def build_model(config: DictConfig, tokenizer: Tokenizer) -> LanguageModel:
    """The config's model with its head, sized for the tokenizer."""
    return build(
        config.model,
        "model",
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        eos_id=tokenizer.eos_id,
        head=build(config.head, "head"),
    )


def run(config: DictConfig) -> Path:
    """Train and evaluate what `config` describes; returns the run's folder.

    A finished run is skipped, an interrupted one goes on where it was.

    Raises:
        UsageError: the config asks for something that cannot be.
        RunError: something broke on the way, or the run was stopped by a signal.
    """
    check(config)
    folder = run_folder(config)
    if is_done(folder):
        return folder
    with open_run(config) as folder:
        start = time.perf_counter()
        trainer: Trainer = build(config.trainer, "trainer")
        evaluator = build(config.evaluator, "evaluator")
        trainer.fabric.seed_everything(config.seed, verbose=False)
        prepared = prepare(config)
        trainer.fabric.barrier()
        model = build_model(config, prepared.tokenizer)
        loss = build(config.loss, "loss", number_values=prepared.tokenizer.number_values())
        objective = Objective(model, loss)
        primary = trainer.fabric.is_global_zero
        logger = build(config.logger, "logger")
        if primary:
            prepared.tokenizer.save(folder / "tokenizer")
            plain = OmegaConf.to_container(config, resolve=True)
            logger.start(folder, plain)
        prepared_at = time.perf_counter()
        result = trainer.fit(
            objective,
            make_optimizer=build(config.optimizer, "optimizer"),
            make_scheduler=build(config.scheduler, "scheduler"),
            batches=PromptAnswerBatches(
                model, prepared.train, prepared.validation, trainer.batch_size, config.seed
            ),
            folder=folder,
            log=logger.log,
        )
        trained_at = time.perf_counter()
        if config.evaluate_checkpoint == "best":
            load_checkpoint(trainer.fabric, folder / "best.ckpt", {"module": objective})
        if primary:
            metrics = {
                "validation/loss": result.last_loss,
                "validation/best_loss": result.best_loss,
                **evaluate(model, evaluator, prepared, folder, trainer.fabric.device),
            }
            logger.finish(metrics)
            write_report(
                folder,
                {
                    "run": folder.name,
                    "metrics": metrics,
                    "seed": config.seed,
                    "scale": config.scale,
                    "config": plain,
                    **provenance(),
                    "parameters": sum(p.numel() for p in model.parameters()),
                    "steps": result.steps,
                    "samples": result.samples,
                    "train_s": result.seconds,
                    # training of earlier sessions included, their preparation not
                    "wall_clock_s": result.seconds
                    + (prepared_at - start)
                    + (time.perf_counter() - trained_at),
                    "peak_memory_mb": result.peak_memory_mb,
                    "wandb_id": logger.id,
                    "finished_at": datetime.datetime.now(datetime.timezone.utc).isoformat(),
                },
            )
        trainer.fabric.barrier()
    return folder


def evaluate(
    model: LanguageModel,
    evaluator: Any,
    prepared: Prepared,
    folder: Path,
    device: torch.device,
) -> dict[str, float]:
    """Metrics `<split>/<metric>` on every test split.

    Each split's metrics and predictions are kept as evaluation/<split>.json and .parquet, so
    that a run interrupted between two splits does not evaluate the first again.
    """
    metrics: dict[str, float] = {}
    (folder / "evaluation").mkdir(exist_ok=True)
    for split in prepared.test_splits:
        path = folder / "evaluation" / f"{split}.json"
        if not path.exists():
            done = evaluator(model, prepared.tokenizer, prepared.splits[split], device)
            try:
                done.predictions.to_parquet(path.with_suffix(".parquet"), index=False)
            except OSError as error:
                raise RunError(
                    f"cannot write {path.with_suffix('.parquet')}: {error}; "
                    "start the same command again to go on"
                ) from error
            write_atomically(path, json.dumps(done.metrics, indent=2))
        values = json.loads(path.read_text())
        metrics.update({f"{split}/{name}": value for name, value in values.items()})
    return metrics
