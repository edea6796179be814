"""A run's folder belongs to one living process, on whatever machine that is."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig
from race import race

from beyond_ce.errors import UsageError
from beyond_ce.runs import claim as module
from beyond_ce.runs.claim import claim, is_claimed, remove_remains
from beyond_ce.runs.identity import run_folder
from beyond_ce.runs.preparation import prepare
from beyond_ce.runs.store import is_done


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_S", 1.0)
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.1)


def of_another_machine(folder: Path) -> Path:
    """The file of a process there: that of one here, under another name."""
    lease = claim(folder)
    text = (folder / ".claim").read_text()
    lease.release()
    (folder / ".claim").write_text(text.replace(f"host={os.uname().nodename}", "host=elsewhere"))
    assert "host=elsewhere" in (folder / ".claim").read_text()
    return folder / ".claim"


def test_a_living_process_keeps_it(tmp_path: Path) -> None:
    lease = claim(tmp_path)
    assert is_claimed(tmp_path)
    time.sleep(1.5)  # longer than the lease, which is refreshed
    with pytest.raises(UsageError, match=rf"another process is running .*process {os.getpid()} on"):
        claim(tmp_path)
    lease.release()
    assert not is_claimed(tmp_path) and list(tmp_path.iterdir()) == []
    claim(tmp_path).release()


def test_what_a_dead_process_left_is_taken_over_at_once(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path;"
        "from beyond_ce.runs import claim as module;"
        "module.LEASE_S, module.HEARTBEAT_S = 1.0, 0.2; lease = module.claim(Path(sys.argv[1]));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)])
    assert killed.returncode == -9 and (tmp_path / ".claim").exists()
    assert not is_claimed(tmp_path)
    start = time.monotonic()
    claim(tmp_path).release()
    assert time.monotonic() - start < 0.9  # without waiting for the lease to end


def test_a_number_that_belongs_to_another_process_now_is_no_sign_of_life(tmp_path: Path) -> None:
    lease = claim(tmp_path)
    text = (tmp_path / ".claim").read_text()
    lease.release()
    (tmp_path / ".claim").write_text(text)  # as a killed process leaves it, whose number is ours
    os.utime(tmp_path / ".claim", (0, 0))
    assert not is_claimed(tmp_path)


def test_what_is_left_in_a_finished_run_is_removed(tmp_path: Path) -> None:
    lease = claim(tmp_path)
    remove_remains(tmp_path)
    assert (tmp_path / ".claim").exists()  # its process lives
    text = (tmp_path / ".claim").read_text()
    lease.release()
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / ".claim").write_text(text.replace(f"pid={os.getpid()}", f"pid={gone.pid}"))
    (tmp_path / ".claim.break").touch()
    remove_remains(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_process_elsewhere_that_shows_no_sign_of_life_loses_it(tmp_path: Path) -> None:
    path = of_another_machine(tmp_path)
    os.utime(path, (0, 0))
    assert not is_claimed(tmp_path)
    os.utime(path)
    assert is_claimed(tmp_path)  # nobody can know that it is dead before the lease has ended
    start = time.monotonic()
    claim(tmp_path).release()
    assert 0.9 < time.monotonic() - start < 5


def test_a_process_elsewhere_that_lives_keeps_it(tmp_path: Path) -> None:
    """Its clock is years behind ours: only changes count."""
    path = of_another_machine(tmp_path)
    stop = threading.Event()

    def refresh() -> None:
        when = 1e9
        while not stop.wait(0.1):
            when += 1
            os.utime(path, (when, when))

    thread = threading.Thread(target=refresh)
    thread.start()
    try:
        with pytest.raises(UsageError, match=r"process \d+ on elsewhere"):
            claim(tmp_path)
    finally:
        stop.set()
        thread.join()


def test_who_has_lost_it_ends_at_once(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from beyond_ce.runs import claim as module;"
        "module.LEASE_S, module.HEARTBEAT_S = 1.0, 0.2; lease = module.claim(Path(sys.argv[1]));"
        "(Path(sys.argv[1]) / '.claim').unlink(); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 1
    assert "is not this process's any more (marker-missing)" in ended.stderr


@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_of_many_processes_one_trains(
    smoke_config: Callable[..., DictConfig], tmp_path: Path, count: int
) -> None:
    config = smoke_config("trainer.max_steps=20", "trainer.log_every=1")
    prepare(config)
    outcomes = tmp_path / "outcomes"
    outcomes.mkdir()
    context = multiprocessing.get_context("forkserver")
    # So that all begin within a second. A module of the package: it does not find those of tests.
    context.set_forkserver_preload(["beyond_ce.runs.experiment"])
    processes = [context.Process(target=race, args=(config, outcomes)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=600)
        assert process.exitcode == 0
    texts = Counter(path.read_text().split(" (")[0] for path in outcomes.iterdir())
    folder = run_folder(config)
    assert texts.pop("trained") == 1
    others = {f"another process is running {folder}", "finished by another"}
    assert set(texts) <= others and sum(texts.values()) == count - 1
    assert is_done(folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert sum('"train/loss"' in line for line in lines) == 20
