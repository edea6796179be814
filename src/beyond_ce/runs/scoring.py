"""Scores a model on the test splits of its run, at the run's end or again later."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from beyond_ce.configuration import build, compose
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import Evaluation, Evaluator, Subject
from beyond_ce.runs.assembly import load_run
from beyond_ce.runs.claim import claim
from beyond_ce.runs.compatibility import check_evaluator
from beyond_ce.runs.identity import reconfigure
from beyond_ce.runs.inputs import compare, current_data, recorded_inputs
from beyond_ce.runs.preparation import Prepared
from beyond_ce.runs.provenance import provenance
from beyond_ce.runs.selection import ByMetric, kept_checkpoints
from beyond_ce.runs.store import read_config
from beyond_ce.storage.reading import damaged, read_numbers
from beyond_ce.storage.writing import check_writable, replacing, write_atomically

if TYPE_CHECKING:
    import datasets

Scores = dict[str, dict[str, float]]
"""The metrics of each split."""

_SCORE_AGAIN = "delete it and start the same command again"
_LONGEST_NAME = 120


def score(
    subject: Subject, evaluator: Evaluator, prepared: Prepared, folder: Path
) -> dict[str, float]:
    """Metrics `<split>/<metric>` on every test split.

    The metrics and predictions of each split are saved as evaluation/<split>.json and .parquet, so
    that a run interrupted between two splits does not score the first again.
    """
    metrics: dict[str, float] = {}
    for split in prepared.test_splits:

        def evaluate(split: str = split) -> Evaluation:
            return evaluator(replace(subject, folder=folder), prepared.splits[split])

        values = _scores(folder / "evaluation" / f"{split}.json", evaluate)
        evaluator.tidy(folder)
        metrics.update({f"{split}/{name}": value for name, value in values.items()})
    return metrics


def _scores(path: Path, evaluate: Callable[[], Evaluation]) -> dict[str, float]:
    """The metrics in the file at `path`, which is written last; evaluates if it does not exist."""
    if not path.exists():
        result = evaluate()
        save_scores(result.metrics, result.predictions, path)
    values = read_numbers(path, _SCORE_AGAIN)
    if not values:
        raise damaged(path, "it has no metrics", _SCORE_AGAIN)
    return values


def select(
    selection: ByMetric,
    load: Callable[[Path], Subject],
    evaluator: Evaluator,
    prepared: Prepared,
    folder: Path,
) -> tuple[int, Path]:
    """Step and file of the kept checkpoint that is best on the validation split.

    Scores are saved as evaluation/validation-step-<step>.json and .parquet, so that an interrupted
    run does not score a checkpoint again.

    Args:
        load: the model in a checkpoint.

    Raises:
        UsageError: the evaluator does not give the metric to choose by.
    """
    examples = prepared.splits["validation"]
    checkpoints = kept_checkpoints(folder)
    scores = {}
    for step, checkpoint in checkpoints.items():
        path = folder / "evaluation" / f"validation-step-{step}.json"

        def evaluate(checkpoint: Path = checkpoint) -> Evaluation:
            return evaluator(load(checkpoint), examples)

        scores[step] = _scores(path, evaluate)
    best = selection.choose(scores)
    return best, checkpoints[best]


def score_again(
    folder: Path, checkpoint: str, splits: Sequence[str], overrides: Sequence[str]
) -> Scores:
    """Score a trained run again, with other settings of its evaluator or another evaluator.

    The metrics and predictions of each split are saved as
    evaluation/<split>-<checkpoint>-<overrides>.json and .parquet; the run's own scores and report
    stay.

    Args:
        folder: of a run, finished or not.
        checkpoint: last or best.
        splits: empty for the test splits.
        overrides: such as `evaluator.num_beams=4`, `evaluator=humaneval`, or of keys left out of
            the run's hash, such as `cache_dir`.

    Raises:
        UsageError: there is no such run, checkpoint, split or override, or its data are no longer
            what it was trained on.
    """
    saved = read_config(folder)
    check_writable(folder / "evaluation", "copy the run's folder to a place of yours")
    chosen = [override for override in overrides if override.startswith("evaluator=")]
    if chosen:
        saved.evaluator = compose(chosen).evaluator
    config = reconfigure(saved, [o for o in overrides if o not in chosen], "evaluator")
    kind = get_object(config.evaluator._target_)
    config.evaluator = kind.pass_on(config.evaluator, saved.evaluator)
    check_evaluator(config)
    if kind.reads(config.evaluator):
        place = "or give its place with dataset.path=..."
        compare(recorded_inputs(folder), current_data(config), f"{folder} was trained", place)
    evaluator: Evaluator = build(config.evaluator, "evaluator")
    model, tokenizer, step = load_run(folder, checkpoint)
    subject = Subject(model, tokenizer, device_of(config), folder)
    settings = [o for o in overrides if o.startswith(("evaluator=", "evaluator."))]
    last = {o.partition("=")[0]: re.sub("^evaluator[.=]", "", o) for o in settings}
    # The later of two values of a setting counts.
    name = "-".join([checkpoint, *sorted(last.values())]).replace("/", "_")
    if len(name) > _LONGEST_NAME:  # file systems take 255 bytes; the report has all settings
        name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    head = {"run": folder.name, "checkpoint": checkpoint, "step": step}
    return score_splits(config, evaluator, subject, splits, name, head)


def score_splits(
    config: DictConfig,
    evaluator: Evaluator,
    subject: Subject,
    splits: Sequence[str],
    name: str,
    head: Mapping[str, Any],
) -> Scores:
    """Score a model on splits of the config's data, or on the evaluator's own.

    Metrics and predictions are saved as evaluation/<split>-<name>.json and .parquet in the
    subject's folder.

    Args:
        splits: empty for the test splits.
        head: what the reports say besides metrics and provenance.

    Raises:
        UsageError: there is no such split, or another process scores into the same folder.
    """
    assert subject.folder is not None
    folder = subject.folder / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    scores = {}
    lease = claim(folder)  # samples are drawn into one place whatever the settings
    try:
        for split, examples in _examples(config, evaluator, splits):
            result = evaluator(subject, examples)
            scores[split] = result.metrics
            report = {
                **head,
                "split": split,
                "evaluator": OmegaConf.to_container(config.evaluator, resolve=True),
                "metrics": result.metrics,
                **evaluator.environment(),
                **provenance(),
            }
            save_scores(report, result.predictions, folder / f"{split}-{name}.json")
            evaluator.tidy(subject.folder)
    finally:
        lease.release()
    return scores


def _examples(
    config: DictConfig, evaluator: Evaluator, splits: Sequence[str]
) -> Iterator[tuple[str, datasets.Dataset]]:
    """Each split that is to be scored, with its examples."""
    import datasets

    if not evaluator.reads(config.evaluator):  # it has its own data
        own = config.evaluator.get("split", "test")
        if splits and list(splits) != [own]:
            raise UsageError(
                f"this evaluator has its own data, of which it scores '{own}': set evaluator.split"
            )
        yield own, datasets.Dataset.from_dict({})
        return
    data = build(config.dataset, "dataset")
    examples = data.load()
    unknown = [split for split in splits if split not in examples]
    if unknown:
        raise UsageError(f"there is no split '{unknown[0]}'; known: {', '.join(examples)}")
    for split in splits or data.test_splits:
        yield split, examples[split]


def device_of(config: DictConfig) -> torch.device:
    """One device of the kind that the config trains on."""
    one = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
    return build(config.trainer, "trainer", **one).fabric.device


def save_scores(values: dict[str, Any], predictions: pd.DataFrame, path: Path) -> None:
    """Writes `predictions` beside `path` as .parquet, and then `values` to `path`: if this file
    exists, both are complete."""
    with replacing(path.with_suffix(".parquet")) as (table,):
        predictions.to_parquet(table, index=False)
    write_atomically(path, json.dumps(values, indent=2))
