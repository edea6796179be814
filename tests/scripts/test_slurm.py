"""Sweeps and tables on a real SLURM, which these tests start and end; see `real_slurm`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from omegaconf import DictConfig
from real_slurm import wait_until
from same_runs import check_same_run, metrics
from waiting_loggers import HELD_AT, HELD_BY

from beyond_ce.runs.experiment import run
from beyond_ce.runs.identity import run_folder
from beyond_ce.runs.store import is_done
from beyond_ce.storage.untrusted import PLUGINS_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"

pytestmark = pytest.mark.slurm

JOB = [
    *("hydra.launcher.gpus_per_node=0", "hydra.launcher.cpus_per_task=1"),
    *("hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=10"),
]
JOBS = [(loss, seed) for loss in ("ce", "ntl_was") for seed in range(3)]  # in the array's order
STEPS = 80
PLUGIN = {
    "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path]),
    PLUGINS_VARIABLE: "waiting_loggers",
}
SLOW = "logger._target_=waiting_loggers.SlowLogger"
HELD = "logger._target_=waiting_loggers.HeldLogger"


def ask(cluster: dict[str, str], *command: str) -> str:
    asked = subprocess.run(command, env=cluster, capture_output=True, text=True, check=True)
    return asked.stdout


def run_here(config: DictConfig, tmp_path: Path) -> Path:
    """The same run in this process, in results of its own."""
    local = config.copy()
    local.results_dir = str(tmp_path / "local")
    return run(local)


def processes_of(task: int) -> list[psutil.Process]:
    """The working processes of a task of the array, without the one that starts them."""
    found = []
    for process in psutil.process_iter(["environ", "cmdline"]):
        environment, command = process.info["environ"] or {}, process.info["cmdline"] or []
        if environment.get("SLURM_ARRAY_TASK_ID") == str(task) and command[1:2] == ["-u"]:
            found.append(process)
    return found


def test_an_array_with_jobs_requeued_killed_and_wrong(
    cluster: dict[str, str],
    smoke_config: Callable[..., DictConfig],
    smoke_overrides: list[str],
    official_data: Path,
    tmp_path: Path,
) -> None:
    """Five runs are as on this machine, whatever happened to them, and the wrong one is named."""
    wrong = ("ntl_was", 1)  # it finds no data: an override that is wrong for one of the six
    for job in JOBS:
        folder = tmp_path / "data" / "-".join(map(str, job))
        folder.mkdir(parents=True)
        if job != wrong:
            (folder / official_data.name).symlink_to(official_data)
    path = f"{tmp_path}/data/${{hydra:runtime.choices.loss}}-${{seed}}/{official_data.name}"
    steps = [f"trainer.max_steps={STEPS}", "trainer.checkpoint_every=20", "trainer.log_every=1"]
    configs = {(loss, n): smoke_config(*steps, f"loss={loss}", f"seed={n}") for loss, n in JOBS}

    def lines(job: tuple[str, int]) -> int:
        records = run_folder(configs[job]) / "metrics.jsonl"
        return len(records.read_text().splitlines()) if records.exists() else 0

    command = [sys.executable, "scripts/train.py", "-m", "hydra/launcher=slurm", *JOB]
    held = tmp_path / "held"  # no run ends before two of them have met their fate
    held.touch()
    sweep = subprocess.Popen(
        [
            *(*command, *smoke_overrides, *steps, "loss=ce,ntl_was", "seed=0,1,2"),
            *(f"dataset.path={path}", f"hydra.sweep.dir={tmp_path / 'sweep'}", HELD),
        ],
        cwd=ROOT,
        env=cluster | PLUGIN | {HELD_BY: str(held)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    requeued, killed = JOBS[0], JOBS[1]
    wait_until(lambda: lines(killed) >= HELD_AT - 10, 120, "the second run trains")
    (process,) = processes_of(1)
    process.send_signal(signal.SIGKILL)
    wait_until(lambda: lines(requeued) >= HELD_AT - 10, 120, "the first run trains")
    array = ask(cluster, "squeue", "--noheader", "--format=%F").split()[0]
    ask(cluster, "scontrol", "requeue", f"{array}_0")
    wait_until(lambda: not processes_of(0), 60, "the first run's process is killed")
    held.unlink()
    output, errors = sweep.communicate(timeout=400)
    assert sweep.returncode == 2, errors
    assert f"SLURM jobs {array}_0 .. {array}_5" in output
    failed = [line for line in errors.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 1, errors
    assert "ntl_was-1/mathematics_dataset-v1.0 is not a folder" in failed[0]
    logs = tmp_path / "sweep" / ".submitit"
    of_killed = (logs / f"{array}_1" / f"{array}_1_0_log.err").read_text()
    assert re.search(r"ended by SIGKILL.*requeued, and continues", of_killed)
    of_requeued = (logs / f"{array}_0" / f"{array}_0_0_log.out").read_text()
    assert of_requeued.count("Loading pickle") == 2  # it ran twice

    folders = {job: run_folder(config) for job, config in configs.items()}
    assert {job for job, folder in folders.items() if is_done(folder)} == set(JOBS) - {wrong}
    for job in set(JOBS) - {wrong}:
        check_same_run(folders[job], run_here(configs[job], tmp_path))


@pytest.mark.slow
def test_a_run_on_two_devices_has_a_task_for_each(
    cluster: dict[str, str],
    smoke_config: Callable[..., DictConfig],
    smoke_overrides: list[str],
    tmp_path: Path,
) -> None:
    steps = ["trainer.max_steps=20", "trainer.log_every=1", "loss=ntl_was"]
    two = ["trainer.devices=2", "trainer.strategy=ddp", "hydra.launcher.tasks_per_node=2"]
    command = [sys.executable, "scripts/train.py", "-m", "hydra/launcher=slurm", *JOB, *two]
    done = subprocess.run(
        [*command, *smoke_overrides, *steps, f"hydra.sweep.dir={tmp_path / 'sweep'}"],
        cwd=ROOT,
        env=cluster,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    config = smoke_config(*steps)
    ours, alone = (metrics(folder) for folder in (run_folder(config), run_here(config, tmp_path)))
    assert ours.keys() == alone.keys()
    for name, value in ours.items():
        assert float(value) == pytest.approx(float(alone[name]), abs=1e-4, nan_ok=True), name


@pytest.mark.slow
def test_a_job_at_its_time_limit_saves_is_requeued_and_resumes(
    cluster: dict[str, str],
    smoke_config: Callable[..., DictConfig],
    smoke_overrides: list[str],
    tmp_path: Path,
) -> None:
    """SLURM counts limits in minutes, and looks every half a minute which of them are near: the
    signal comes 15 to 45 seconds after the start."""
    steps = ["trainer.max_steps=160", "trainer.checkpoint_every=1000", "trainer.log_every=1"]
    limit = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=15"]
    command = [sys.executable, "scripts/train.py", "-m", "hydra/launcher=slurm", *JOB, *limit]
    sweep = subprocess.Popen(
        [
            *(*command, *smoke_overrides, *steps, SLOW),
            f"hydra.sweep.dir={tmp_path / 'sweep'}",
        ],
        cwd=ROOT,
        env=cluster | PLUGIN,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    config = smoke_config(*steps)
    alone = run_here(config, tmp_path)
    _, errors = sweep.communicate(timeout=900)
    assert sweep.returncode == 0, errors
    (log,) = (tmp_path / "sweep" / ".submitit").glob("*/*_log.err")
    assert re.search(r"Caught signal SIGUSR2.*timed-out", log.read_text())
    check_same_run(run_folder(config), alone)
