"""scripts/evaluate.py: a trained run evaluated again, beside what it reported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig

from beyond_ce.errors import RunError, UsageError
from beyond_ce.runs import scoring
from beyond_ce.runs.claim import claim
from beyond_ce.runs.experiment import run
from beyond_ce.runs.identity import reconfigure
from beyond_ce.runs.scoring import score_again
from beyond_ce.runs.store import read_config

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "evaluate.py"


@pytest.fixture
def folder(smoke_config: Callable[..., DictConfig]) -> Path:
    return run(smoke_config("trainer.max_steps=10"))


def evaluate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300
    )


def test_the_script_prints_and_keeps_metrics_beside_the_runs_own(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    settings = ["evaluator.num_beams=2", "evaluator.max_examples=7"]
    done = evaluate(str(folder), *settings, "--split", "interpolate", "validation")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["interpolate", "validation"]
    assert "accuracy" in done.stdout
    for split in ("interpolate", "validation"):
        path = folder / "evaluation" / f"{split}-last-max_examples=7-num_beams=2.json"
        report = json.loads(path.read_text())
        assert report["evaluator"]["num_beams"] == 2 and report["step"] == 10
        assert "accuracy" in report["metrics"] and "commit" in report
        assert len(pd.read_parquet(path.with_suffix(".parquet"))) == 7
    assert {path: path.read_bytes() for path in before} == before


def test_the_same_settings_give_what_the_run_reported(folder: Path) -> None:
    reported = json.loads((folder / "report.json").read_text())["metrics"]
    for split, metrics in score_again(folder, "last", [], []).items():
        assert metrics == {
            name.removeprefix(f"{split}/"): value
            for name, value in reported.items()
            if name.startswith(f"{split}/")
        }


def test_settings_reach_the_parts_of_a_combined_evaluator(
    smoke_config: Callable[..., DictConfig],
) -> None:
    folder = run(smoke_config("trainer.max_steps=2", "evaluator=number_answers_and_mass"))
    with pytest.raises(UsageError, match="num_beams=0: give at least 1"):
        score_again(folder, "last", ["interpolate"], ["evaluator.num_beams=0"])
    part = "evaluator.evaluators.number_mass.max_examples=3"
    with pytest.raises(UsageError, match="contradict each other"):
        score_again(folder, "last", ["interpolate"], [part])
    settings = ["evaluator.max_examples=5", "evaluator.max_examples=2"]
    score_again(folder, "last", ["interpolate"], settings)
    path = folder / "evaluation" / "interpolate-last-max_examples=2.json"
    assert len(pd.read_parquet(path.with_suffix(".parquet"))) == 2
    used = json.loads(path.read_text())["evaluator"]
    assert {part["max_examples"] for part in used["evaluators"].values()} == {2}


def test_settings_too_long_for_a_file_name_are_told_apart(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_LONGEST_NAME", 15)
    for number in (1, 2):
        score_again(folder, "last", ["interpolate"], [f"evaluator.max_examples={number}"])
    names = [path.name for path in (folder / "evaluation").glob("interpolate-last-*.json")]
    assert len(names) == 2
    assert all(re.fullmatch(r"interpolate-last-max_exampl-[0-9a-f]{12}\.json", n) for n in names)


def test_two_scorings_of_one_run_do_not_meet(folder: Path) -> None:
    lease = claim(folder / "evaluation")
    with pytest.raises(UsageError, match="another process is running .*evaluation"):
        score_again(folder, "last", ["interpolate"], [])
    lease.release()
    assert score_again(folder, "last", ["interpolate"], [])
    assert not list((folder / "evaluation").glob(".*"))


def test_an_unfinished_run_is_evaluated_where_it_is(folder: Path) -> None:
    (folder / "DONE").unlink()
    (folder / "report.json").unlink()
    assert set(score_again(folder, "best", ["interpolate"], [])) == {"interpolate"}
    assert not (folder / "DONE").exists()


def test_errors_are_one_line(
    tmp_path: Path, call: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = call("evaluate.py", tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr == f"error: {tmp_path} is no run folder: give one such as results/runs/<hash>\n"
    )


def test_what_is_missing_or_damaged_is_named(folder: Path) -> None:
    with pytest.raises(UsageError, match="no split 'nope'; known: interpolate, extrapolate"):
        score_again(folder, "last", ["nope"], [])
    with pytest.raises(UsageError, match=r"num_beams=0: give at least 1"):
        score_again(folder, "last", [], ["evaluator.num_beams=0"])
    (folder / "last.ckpt").write_bytes(b"PK")
    with pytest.raises(RunError, match="cannot load checkpoint"):
        score_again(folder, "last", [], [])
    (folder / "last.ckpt").unlink()
    with pytest.raises(
        UsageError, match="has lost its last checkpoint: delete the folder and run again"
    ):
        score_again(folder, "last", [], [])
    (folder / "DONE").unlink()
    with pytest.raises(UsageError, match="has no last checkpoint yet: train longer"):
        score_again(folder, "last", [], [])


@pytest.mark.parametrize(
    "override", ["trainer.max_steps=3", "loss.weight=2", "seed=1", "nope=1", "+evaluator.nope=1"]
)
def test_an_override_does_not_make_it_another_run(folder: Path, override: str) -> None:
    with pytest.raises(UsageError, match="would be another run"):
        reconfigure(read_config(folder), [override], "evaluator")


def test_an_override_may_say_where_and_how_to_evaluate(folder: Path) -> None:
    config = read_config(folder)
    overrides = ["evaluator.num_beams=4", "cache_dir=elsewhere", "trainer.accelerator=auto"]
    changed = reconfigure(config, overrides, "evaluator")
    assert changed.evaluator.num_beams == 4 and changed.cache_dir == "elsewhere"
    assert config.evaluator.num_beams == 1
