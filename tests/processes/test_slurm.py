"""What SLURM's answers mean, and what becomes of a job whose process is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import submitit

from beyond_ce.errors import UsageError
from beyond_ce.processes import slurm, slurm_job
from beyond_ce.processes.slurm import Watcher, parameters_of, submit

SQUEUE = """\
JOBID|STATE|NODELIST
12_0|RUNNING|node1
12_1|PENDING|
12_2|FAILED|node1
13|COMPLETED|node2
"""


def test_states_without_accounts_come_from_squeue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "_keeps_accounts", lambda: False)
    watcher = Watcher(delay_s=60)
    jobs = ("12_0", "12_1", "12_2", "13", "11")
    for job in jobs:
        watcher.register_job(job)
    asked = []

    def answer(command: list[str], **_: object) -> bytes:
        asked.append(command[0])
        return SQUEUE.encode()

    monkeypatch.setattr("submitit.core.core.subprocess.check_output", answer)
    watcher.update()
    states = {job: watcher.get_state(job, mode="cache") for job in jobs}
    assert asked == ["squeue"]
    assert states == {
        **{"12_0": "RUNNING", "12_1": "PENDING", "12_2": "FAILED", "13": "COMPLETED"},
        "11": "GONE",  # squeue has forgotten it
    }
    done = {job for job in jobs if watcher.is_done(job, mode="cache")}
    assert done == {"12_2", "13", "11"}


def test_the_launchers_settings_have_submitits_names() -> None:
    launcher = {"_target_": "x", "submitit_folder": "y", "timeout_min": 5, "account": "me"}
    settings = parameters_of({**launcher, "partition": None})
    assert settings == {"timeout_min": 5, "slurm_account": "me"}


def test_a_setting_that_slurm_does_not_know_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(UsageError, match="cannot submit to SLURM") as error:
        submit(tmp_path, {"slurm_colour": "blue"}, print, [("a",)])
    assert "\n" not in str(error.value)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an array's job, and a scontrol that notes what it is asked for."""
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $* >> {tmp_path / 'asked'}\n")
    scontrol.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    values = {"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "1"}
    for name, value in {**values, "PATH": path}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "12_1").mkdir()
    return tmp_path


def start(job: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Starts the job, as submitit does, with a program that does the work."""
    quick = "import sys; sys.argv = sys.argv[1:]; import runpy, time; time.sleep = lambda _: None; "
    command = f"{quick}runpy.run_path({slurm_job.__file__!r}, run_name='__main__')"
    arguments = ["x", "-c", program, str(job / "%j")]
    return subprocess.run(
        [sys.executable, "-c", command, *arguments], capture_output=True, text=True
    )


def test_a_killed_process_gets_one_more_try(job: Path) -> None:
    kill = "import os; os.kill(os.getpid(), 9)"
    first = start(job, kill)
    assert first.returncode == 1 and "ended by SIGKILL" in first.stderr
    assert "requeued" in first.stderr and (job / "asked").read_text() == "requeue 14\n"
    second = start(job, kill)
    assert second.returncode == 137 and second.stderr.startswith("error: job 14")
    assert (job / "asked").read_text() == "requeue 14\n"


def test_what_ends_by_itself_is_not_requeued(job: Path) -> None:
    for code in (0, 3):
        assert start(job, f"raise SystemExit({code})").returncode == code
    assert not (job / "asked").exists()


def test_all_jobs_are_watched_in_this_way() -> None:
    assert isinstance(submitit.SlurmJob.watcher, Watcher)
