"""Weights & Biases without a key: what its own file holds, and that its failures cost no run."""

from __future__ import annotations

import json
import os
import pty
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from omegaconf import DictConfig, OmegaConf
from wandb.proto.wandb_internal_pb2 import Record

from beyond_ce.errors import RunError
from beyond_ce.reporting.tracking import WandbLogger
from beyond_ce.runs import experiment
from beyond_ce.runs.experiment import run
from beyond_ce.runs.store import read_report
from beyond_ce.training import Stopped


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))


def records(path: Path) -> Iterator[Record]:
    """What a .wandb file holds: protocol buffers in LevelDB's log format.

    After 7 bytes of file header come fragments of (checksum, length, kind, data); none spans two
    blocks of 32 KiB, and kinds 1 (whole) and 4 (last) end a record.
    """
    data = path.read_bytes()
    assert data.startswith(b":W&B")
    at, joined = 7, b""
    while at + 7 <= len(data):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        joined += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(joined)
            joined = b""


def key(item: Any) -> str:
    return "/".join(item.nested_key) or item.key


class Recorded:
    """Everything that the offline sessions of a run recorded, in order."""

    def __init__(self, folder: Path) -> None:
        self.ids: list[str] = []
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: dict[int, dict[str, float]] = {}
        wandb.teardown()  # its process writes behind our back until it ends
        for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
            for record in records(path):
                self._add(record)

    def _add(self, record: Record) -> None:
        if record.HasField("run"):
            self.ids.append(record.run.run_id)
            self.config = {key(i): json.loads(i.value_json) for i in record.run.config.update}
        for item in record.summary.update:
            self.summary[key(item)] = json.loads(item.value_json)
        line = {key(item): json.loads(item.value_json) for item in record.history.item}
        if line:
            self.history[line.pop("_step")] = {
                name: value for name, value in line.items() if not name.startswith("_")
            }


def written(folder: Path) -> dict[int, dict[str, float]]:
    """metrics.jsonl, its lines of one step joined."""
    steps: dict[int, dict[str, float]] = {}
    for text in (folder / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        steps.setdefault(line.pop("step"), {}).update(line)
    return steps


def test_without_a_key_the_offline_run_holds_what_our_files_hold(
    smoke_config: Callable[..., DictConfig],
) -> None:
    config = smoke_config("logger=wandb", "loss=ntl_was")
    folder = run(config)
    report = read_report(folder)
    recorded = Recorded(folder)
    assert recorded.ids == [folder.name] == [report["wandb_id"]]
    assert recorded.history == written(folder)
    assert len(recorded.history) == 4
    assert report["metrics"].items() <= recorded.summary.items()
    for name, value in OmegaConf.to_container(config, resolve=True).items():
        assert recorded.config[name] == value


def test_a_resumed_run_goes_on_under_its_id(
    smoke_config: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = WandbLogger.log

    def stop_after(self: WandbLogger, values: dict[str, float], step: int) -> None:
        record(self, values, step)
        if step == 15:
            os.kill(os.getpid(), signal.SIGTERM)

    config = smoke_config("logger=wandb", "seed=1")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(WandbLogger, "log", stop_after)
        run(config)
    folder = run(config)
    recorded = Recorded(folder)
    # One part with all of it: uploading two would leave the second alone.
    assert recorded.ids == [folder.name] == [read_report(folder)["wandb_id"]]
    assert recorded.history == written(folder)
    assert read_report(folder)["metrics"].items() <= recorded.summary.items()


def test_a_failed_run_does_not_swallow_the_next_one_of_its_process(
    smoke_config: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RunError("no")

    with monkeypatch.context() as patch, pytest.raises(RunError):
        patch.setattr(experiment, "score", fail)
        run(smoke_config("logger=wandb", "seed=2"))
    folder = run(smoke_config("logger=wandb", "seed=3"))
    recorded = Recorded(folder)
    assert recorded.ids == [folder.name]
    assert recorded.history == written(folder)


@pytest.mark.parametrize(("broken", "has_id"), [("init", False), ("log", True)])
def test_a_failing_tracker_costs_one_warning(
    smoke_config: Callable[..., DictConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: str,
    has_id: bool,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the server\nis on fire")

    monkeypatch.setattr(wandb if broken == "init" else wandb.Run, broken, fail)
    folder = run(smoke_config("logger=wandb", f"seed={4 + has_id}"))
    assert read_report(folder)["wandb_id"] == (folder.name if has_id else None)
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warnings == ["warning: W&B stopped recording: the server is on fire"]
    assert len(written(folder)) == 4


@pytest.mark.parametrize("mode", [None, "online"])
def test_it_never_asks_for_a_key(mode: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "abc"
    folder.mkdir()
    code = (
        "import pathlib, sys; from beyond_ce.reporting.tracking import WandbLogger; "
        f"logger = WandbLogger('project', mode={mode!r}); "
        "logger.start(pathlib.Path(sys.argv[1]), {}); "
        "sys.exit(logger.mode != 'offline' or logger.id != 'abc')"
    )
    child, terminal = pty.fork()
    if child == 0:  # where a prompt would appear, and wait for ever
        signal.alarm(60)
        os.execv(sys.executable, [sys.executable, "-c", code, str(folder)])
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:  # the other end is closed
        pass
    assert os.waitpid(child, 0)[1] == 0


def test_the_environment_can_turn_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = WandbLogger("project")
    logger.start(tmp_path, {})
    logger.log({"loss": 1.0}, 1)
    logger.finish({})
    assert logger.id is None and not (tmp_path / "wandb").exists()
