"""A run without a model: a baseline fitted to the training answers and scored like a model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig

from beyond_ce.configuration import build
from beyond_ce.data.numbers import last_number, number_value, plain
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import NumberAnswers
from beyond_ce.evaluation.evaluator import subsample
from beyond_ce.runs.inputs import record_inputs
from beyond_ce.runs.report import now, report_head
from beyond_ce.runs.scoring import save_scores
from beyond_ce.runs.store import open_run, write_report
from beyond_ce.training.records import peak_memory_mb

if TYPE_CHECKING:
    from beyond_ce.evaluation.baselines import Baseline  # imports scikit-learn


def run_baseline(config: DictConfig) -> Path:
    """Fit the config's baseline to the training split and score it on the test splits.

    Raises:
        UsageError: the answers are no numbers.
    """
    start = time.perf_counter()
    with open_run(config) as folder:
        inputs = record_inputs(config, folder)
        baseline: Baseline = build(config.baseline, "baseline")
        evaluator: NumberAnswers = build(config.evaluator, "evaluator")
        data = build(config.dataset, "dataset")
        splits = data.load()
        train = splits["train"]
        targets = np.array([number_value(last_number(answer)) for answer in train["answer"]])
        if np.isnan(targets).any():
            raise UsageError(
                f"dataset {data.name} has answers without a number, which "
                f"{type(baseline).__name__} cannot predict: leave out baseline="
            )
        parameters = baseline.fit(list(train["prompt"]), targets)
        fitted_at = time.perf_counter()
        metrics: dict[str, float] = {}
        for split in data.test_splits:
            examples = subsample(splits[split], evaluator.max_examples)
            answers = baseline.predict(list(examples["prompt"]))
            frame = examples.select_columns(["prompt", "answer", "task"]).to_pandas()
            result = evaluator.judge(frame.assign(prediction=[plain(number) for number in answers]))
            path = folder / "evaluation" / f"{split}.json"
            save_scores(result.metrics, result.predictions, path)
            metrics |= {f"{split}/{name}": value for name, value in result.metrics.items()}
        report = {
            **report_head(config),
            "data": data.fingerprint(),
            "inputs": inputs,
            "metrics": metrics,
            "parameters": parameters,
            "steps": 0,
            "samples": len(train),
            "train_s": fitted_at - start,
            "wall_clock_s": time.perf_counter() - start,
            "peak_memory_mb": peak_memory_mb(),
            "wandb_id": None,
            "finished_at": now(),
        }
        write_report(folder, report)
    return folder
