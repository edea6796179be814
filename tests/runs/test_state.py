"""What has become of a run, from its folder alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from beyond_ce.errors import RunError, Stopped
from beyond_ce.runs import state as module
from beyond_ce.runs.experiment import run
from beyond_ce.runs.identity import run_folder
from beyond_ce.runs.state import job_of, note_failed, note_queued, state_of
from beyond_ce.runs.store import open_run, write_report

Compose = Callable[..., DictConfig]


def test_from_the_queue_to_the_end(smoke_config: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = smoke_config("trainer.max_steps=200", "trainer.batch_size=16")
    folder = run_folder(config)
    assert state_of(folder, config).name == "missing"
    note_queued(folder, Path("12_3.err"), "12_3")
    state = state_of(folder, config)
    assert (state.name, state.job, state.log) == ("queued", "12_3", "12_3.err")
    with open_run(config):
        lines = [{"step": 40, "train/samples_per_s": 80.0}, {"step": 50, "validation/loss": 1.0}]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text + '{"step": 5')
        state = state_of(folder, config)
        assert (state.name, state.step, state.steps, state.steps_per_s) == ("running", 50, 200, 5.0)
        assert state.seconds_left == 30.0
    state = state_of(folder, config)
    assert (state.name, state.step, state.seconds_left) == ("interrupted", 50, None)
    with pytest.raises(ZeroDivisionError), open_run(config):
        raise ZeroDivisionError("a\nb")
    state = state_of(folder, config)
    assert (state.name, state.reason) == ("failed", "ZeroDivisionError: a b")
    assert state.job == job_of(folder) == "12_3"
    with open_run(config):
        assert state_of(folder, config).name == "running"
        note_failed(folder, "of a process that found this one")
    assert state_of(folder, config).name == "interrupted"
    with pytest.raises(Stopped), open_run(config):
        raise Stopped("by SIGTERM")
    assert state_of(folder, config).name == "interrupted"
    write_report(folder, {"run": folder.name, "metrics": {}})
    state = state_of(folder, config)
    assert (state.name, state.step) == ("done", 200)
    assert not (folder / "state.json").exists()


def test_who_was_to_start_it_may_be_gone(
    tmp_path: Path, smoke_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = smoke_config()
    note_queued(tmp_path, tmp_path / "output.log")
    assert state_of(tmp_path, config).name == "queued"
    monkeypatch.setattr(module.psutil, "pid_exists", lambda pid: False)
    assert state_of(tmp_path, config).name == "missing"
    monkeypatch.setattr(module.socket, "gethostname", lambda: "elsewhere")
    assert state_of(tmp_path, config).name == "queued"  # as far as anybody here can know


def test_a_run_that_fails_says_why(smoke_config: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = smoke_config()

    def fail(*_: object) -> None:
        raise RunError("no space left")

    monkeypatch.setattr("beyond_ce.runs.experiment._train", fail)
    with pytest.raises(RunError):
        run(config)
    state = state_of(run_folder(config), config)
    assert (state.name, state.reason) == ("failed", "RunError: no space left")
