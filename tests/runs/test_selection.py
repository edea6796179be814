"""A run that scores its checkpoints on the validation split, and the best of them on the test's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import DictConfig, open_dict

from beyond_ce.configuration import compose
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import Evaluation, Rouge
from beyond_ce.evaluation.sampling import weights_digest
from beyond_ce.runs.experiment import run
from beyond_ce.runs.selection import ByMetric, kept_checkpoints
from beyond_ce.runs.store import is_done, read_report

WORTH = {2: 0.5, 4: 0.75, 6: 0.75}  # of the checkpoints, by step


def test_the_first_of_the_best() -> None:
    scores = {step: {"rougeL": worth, "words": -step} for step, worth in WORTH.items()}
    assert ByMetric("rougeL").choose(scores) == 4
    assert ByMetric("words").choose(scores) == 2
    with pytest.raises(UsageError, match=r"selection.metric=f1: the evaluator gives rougeL, words"):
        ByMetric("f1").choose(scores)


def test_steps_are_numbers(tmp_path: Path) -> None:
    for name in ("step-10.ckpt", "step-9.ckpt", "step-9.ckpt.tmp", "last.ckpt", "step-x.ckpt"):
        (tmp_path / name).touch()
    assert list(kept_checkpoints(tmp_path)) == [9, 10]


@pytest.fixture
def config(tmp_path: Path, cache_dir: Path) -> DictConfig:
    data = tmp_path / "data"
    data.mkdir()
    for split, count in (("train", 12), ("dev", 3), ("test", 2)):
        rows = [
            {"document": f"Text {i} of {split}.", "summary": f"It is {i}."} for i in range(count)
        ]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return compose(
        [
            "experiment=mtp/summaries/smoke",
            "start=random",
            f"dataset.data.path={data}",
            *("dataset.sequence_length=16", "evaluator.max_new_tokens=4"),
            "trainer.progress=false",
            *(f"results_dir={tmp_path / 'results'}", f"cache_dir={cache_dir}"),
        ]
    )


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """How many examples were scored with which weights, in order; validation scores are `WORTH`."""
    seen: list[tuple[int, bytes]] = []
    worth = iter(WORTH.values())

    def score(self: Any, subject: Any, examples: Any) -> Evaluation:
        seen.append((len(examples), weights_digest(subject.model)))
        value = next(worth) if len(examples) == 3 else 0.125
        return Evaluation({"rougeL": value}, pd.DataFrame({"x": [1]}))

    monkeypatch.setattr(Rouge, "__call__", score)
    return seen


def test_the_best_is_tested(config: DictConfig, scored: list[tuple[int, bytes]]) -> None:
    folder = run(config)
    assert [count for count, _ in scored] == [3, 3, 3, 2]
    weights = [digest for _, digest in scored]
    assert len(set(weights[:3])) == 3 and weights[3] == weights[1]
    metrics = read_report(folder)["metrics"]
    assert metrics["test/rougeL"] == 0.125
    assert metrics["test/selected_step"] == 4
    rows = metrics["test/selected_epoch"] ** -1 * 4 * config.trainer.batch_size
    assert rows == pytest.approx(round(rows)) and rows > 8
    assert list(kept_checkpoints(folder)) == [2, 4, 6]


def test_killed_while_it_scores_it_goes_on(
    config: DictConfig, scored: list[tuple[int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    score = Rouge.__call__

    def dies(self: Any, subject: Any, examples: Any) -> Evaluation:
        if len(scored) == 2:
            raise KeyboardInterrupt
        return score(self, subject, examples)

    monkeypatch.setattr(Rouge, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    monkeypatch.setattr(Rouge, "__call__", score)
    folder = run(config)
    assert is_done(folder)
    assert [count for count, _ in scored] == [3, 3, 3, 2]
    assert scored[3][1] == scored[1][1]


def test_without_a_selection_nothing_is_kept(config: DictConfig) -> None:
    with open_dict(config):
        del config["selection"]
    folder = run(config)
    assert not kept_checkpoints(folder) and (folder / "last.ckpt").exists()


def test_a_selection_without_a_metric_is_refused(config: DictConfig) -> None:
    config.selection.metric = 3
    with pytest.raises(UsageError, match="selection.metric=3"):
        run(config)


def test_one_choice_of_the_checkpoint_is_enough(config: DictConfig) -> None:
    config.evaluate_checkpoint = "best"
    with pytest.raises(UsageError, match="evaluate_checkpoint=best and selection= both choose"):
        run(config)
