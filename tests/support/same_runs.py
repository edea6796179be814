"""Compares the runs in two folders, of which one was killed on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

TIMED = ("train/samples_per_s", "speedup", "tokens_per_second")


def names(folder: Path) -> set[str]:
    """All files and folders below `folder`."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def check_same(folder: Path, whole: Path) -> None:
    """Both hold the same files, tables and runs, whose records, metrics, scores and weights are
    equal to the last bit; measured times may differ."""
    assert names(folder) == names(whole)
    runs = sorted((whole / "results" / "runs").iterdir())
    assert runs
    for run in runs:
        check_same_run(folder / "results" / "runs" / run.name, run)
    for path in whole.glob("results/tables/*/*.csv"):
        assert (folder / path.relative_to(whole)).read_bytes() == path.read_bytes(), path


def check_same_run(folder: Path, whole: Path) -> None:
    """The same for the folders of one run."""
    assert metrics(folder) == metrics(whole), folder
    for path in whole.glob("evaluation/*.json"):
        ours = json.loads((folder / "evaluation" / path.name).read_text())
        assert _untimed(ours) == _untimed(json.loads(path.read_text())), folder
    if (whole / "metrics.jsonl").exists():  # not of a baseline
        assert records(folder) == records(whole), folder
        for name in ("last.ckpt", "best.ckpt"):
            ours, theirs = (
                torch.load(run / name, weights_only=True)["module"] for run in (folder, whole)
            )
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], value) for key, value in theirs.items()), folder


def metrics(run: Path) -> dict[str, Any]:
    """The metrics of report.json without times."""
    return _untimed(json.loads((run / "report.json").read_text())["metrics"])


def records(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without times."""
    return [_untimed(json.loads(line)) for line in (run / "metrics.jsonl").open()]


def _untimed(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: repr(value)  # as NaN does not equal itself
        for name, value in values.items()
        if not any(timed in name for timed in TIMED)
    }
