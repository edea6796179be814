"""Two ranks on one machine, through scripts/train.py: the same numbers, one writer, one voice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from beyond_ce.reporting.tracking import NoLogger
from beyond_ce.runs.experiment import run
from beyond_ce.runs.identity import run_folder
from beyond_ce.runs.store import open_run
from beyond_ce.training import Stopped

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
TWO_RANKS = ["trainer.devices=2", "trainer.strategy=ddp"]


def train(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def curve(folder: Path) -> dict[tuple[int, str], float]:
    """Losses and gradient norms of metrics.jsonl by (step, name)."""
    values = {}
    for text in (folder / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        step = line.pop("step")
        for name, value in line.items():
            if name != "train/samples_per_s":
                assert (step, name) not in values  # one rank writes
                values[step, name] = value
    return values


def metrics(folder: Path) -> dict[str, float]:
    return json.loads((folder / "report.json").read_text())["metrics"]


def test_two_ranks_go_on_where_one_stopped_and_compute_the_same(
    smoke_overrides: list[str],
    smoke_config: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overrides = ["loss=ntl_was", "trainer.max_steps=60", "trainer.log_every=1"]
    whole = run(smoke_config(*overrides, f"results_dir={tmp_path / 'whole'}"))

    def stop_halfway(self: NoLogger, values: dict[str, float], step: int) -> None:
        if step == 30:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(NoLogger, "log", stop_halfway)
        run(smoke_config(*overrides))
    folder = run_folder(smoke_config(*overrides))
    assert max(curve(folder))[0] == 30

    process = train(tmp_path, *smoke_overrides, *overrides, *TWO_RANKS)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert output == f"{folder}\n"
    assert curve(folder) == pytest.approx(curve(whole), abs=1e-4)
    assert metrics(folder) == pytest.approx(metrics(whole), abs=1e-4)
    assert not list(tmp_path.glob("*.log"))


@pytest.mark.slow
def test_two_ranks_of_a_multi_token_model_compute_the_same(
    smoke_overrides: list[str], smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    """Each head has denominators of its own, and all gradients meet once."""
    overrides = [
        *("model=decoder_smallest", "model.num_layers=4"),
        *("head=multi_token_causal", "head.n=3", "loss=ntl_was"),
        *("trainer.max_steps=20", "trainer.log_every=1", "trainer.evaluate_every=10"),
        "trainer.accumulate=2",
    ]
    whole = run(smoke_config(*overrides, f"results_dir={tmp_path / 'whole'}"))
    process = train(tmp_path, *smoke_overrides, *overrides, *TWO_RANKS)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    ours = curve(run_folder(smoke_config(*overrides)))
    assert ours == pytest.approx(curve(whole), abs=1e-4)
    assert (20, "validation/head3/ntl") in ours


def test_an_error_of_one_rank_ends_both_and_is_told_once(
    smoke_overrides: list[str], smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    with open_run(smoke_config()):
        process = train(tmp_path, *smoke_overrides, *TWO_RANKS)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors.count("error: another process is running") == 1
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_both_with_a_checkpoint(
    smoke_overrides: list[str], smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    endless = ["trainer.max_steps=100000", "trainer.checkpoint_every=100000"]
    folder = run_folder(smoke_config(*endless))
    process = train(tmp_path, *smoke_overrides, *endless, *TWO_RANKS)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (folder / "best.ckpt").exists():
        time.sleep(0.1)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.count("error: stopped by SIGTERM") == 1
    assert "Traceback" not in errors
    assert (folder / "last.ckpt").exists()
