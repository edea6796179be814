"""A table on a node with several GPUs: a run on each, or one run on all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from beyond_ce.errors import RunError
from beyond_ce.reproduction import launch
from beyond_ce.reproduction.launch import default_jobs, run_local
from beyond_ce.reproduction.plan import Plan, plan
from beyond_ce.reproduction.workers import Task, run_command, run_tasks


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def on_gpus(table: str, tmp_path: Path, *overrides: str) -> Plan:
    return plan(table, "paper", overrides=[f"results_dir={tmp_path}", *overrides])


def test_as_many_runs_as_gpus(
    eight_gpus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_jobs(on_gpus("ntl-7", tmp_path)) == 8
    assert default_jobs(on_gpus("ntl-7", tmp_path, "trainer.devices=4")) == 2
    assert default_jobs(on_gpus("ntl-7", tmp_path, "trainer.devices=auto")) == 1
    assert default_jobs(on_gpus("ntl-7", tmp_path, "trainer.devices=[0,1]")) == 4
    assert default_jobs(on_gpus("mtp-s4", tmp_path)) == 1  # each run takes all eight
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert default_jobs(on_gpus("ntl-7", tmp_path)) == 2


def test_small_runs_share_the_gpus_and_large_ones_get_a_command(
    eight_gpus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def run_tasks(tasks: Any, max_workers: int, on_done: Any, gpus: Any) -> None:
        given.update(tasks=list(tasks), gpus=gpus)

    monkeypatch.setattr(launch, "run_tasks", run_tasks)
    run_local(on_gpus("ntl-7", tmp_path), os.getpid, 8)
    assert given["gpus"] == [str(index) for index in range(8)]
    assert all(task.function is os.getpid for task in given["tasks"])
    run_local(on_gpus("mtp-s4", tmp_path), os.getpid, 1)
    assert given["gpus"] == [] and len(given["tasks"]) == 7  # a row each
    command = given["tasks"][0].argument
    assert command[1].endswith("scripts/train.py") and Path(command[1]).is_file()
    assert {"experiment=mtp/architectures/paper", f"results_dir={tmp_path}", "seed=0"} < {*command}


def show_gpu(folder: Path) -> None:
    """Notes which GPU the process sees, and waits for the other process to do the same."""
    (folder / os.environ["CUDA_VISIBLE_DEVICES"]).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)


def test_each_process_sees_a_gpu_of_its_own(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    tasks = [Task(show_gpu, seen, tmp_path / f"{index}.log") for index in range(2)]
    errors: list[str | None] = []
    run_tasks(tasks, 2, lambda task, error: errors.append(error), gpus=["3", "5"])
    assert errors == [None, None]
    assert sorted(path.name for path in seen.iterdir()) == ["3", "5"]


def test_a_command_that_fails_is_an_error() -> None:
    run_command([sys.executable, "-c", "pass"])
    with pytest.raises(RunError, match="exit code 3"):
        run_command([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_signal_to_stop_reaches_the_command(tmp_path: Path) -> None:
    child = (
        "import pathlib, signal, sys, time\n"
        f"file = pathlib.Path({str(tmp_path / 'stopped')!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: (file.touch(), sys.exit(1)))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(60)\n"
    )
    program = (
        "import sys\nfrom beyond_ce.reproduction.workers import run_command\n"
        f"run_command([sys.executable, '-c', {child!r}])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (tmp_path / "stopped").exists() and "exit code 1" in errors
