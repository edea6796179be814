"""scripts/train.py as a user runs it: errors in one line, sweeps, kills and resumption."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from omegaconf import DictConfig
from same_runs import check_same_run

from beyond_ce.command_line import one_line_errors
from beyond_ce.errors import RunError, UsageError
from beyond_ce.runs.experiment import run, train
from beyond_ce.runs.identity import run_folder

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "train.py"


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def report_metrics(folder: Path) -> dict[str, float]:
    return json.loads((folder / "report.json").read_text())["metrics"]


def test_trained_first_and_scored_later_is_one_run(
    smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    config = smoke_config("trainer.log_every=1")
    folder = train(config)
    assert not (folder / "DONE").exists() and not (folder / "report.json").exists()
    trained = (folder / "metrics.jsonl").read_bytes()
    assert run(config) == folder
    assert (folder / "metrics.jsonl").read_bytes() == trained  # not one step more
    config.results_dir = str(tmp_path / "at_once")
    check_same_run(folder, run(config))


def test_a_run_leaves_everything_that_its_numbers_need(
    smoke_config: Callable[..., DictConfig],
) -> None:
    config = smoke_config("loss=ntl_was")
    folder = run(config)
    assert folder == run_folder(config)
    report = json.loads((folder / "report.json").read_text())
    assert {"interpolate/accuracy", "extrapolate/accuracy", "validation/loss"} <= set(
        report["metrics"]
    )
    assert report["config"]["loss"]["_target_"] == "beyond_ce.losses.WassersteinLoss"
    assert report["samples"] == config.trainer.max_steps * config.trainer.batch_size
    assert report["versions"]["torch"] == torch.__version__
    assert {"commit", "dirty", "hardware", "wall_clock_s", "peak_memory_mb"} <= set(report)
    for name in ("DONE", "config.yaml", "metrics.jsonl", "tokenizer", "last.ckpt", "best.ckpt"):
        assert (folder / name).exists()
    predictions = folder / "evaluation" / "interpolate.parquet"
    assert predictions.stat().st_size > 0


def test_a_finished_run_is_skipped(
    smoke_config: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(smoke_config())
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert "skipped" not in capsys.readouterr().out
    assert run(smoke_config("trainer.num_threads=2")) == folder
    assert capsys.readouterr().out == f"{folder} is finished: skipped\n"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_folder_of_another_config_is_refused(smoke_config: Callable[..., DictConfig]) -> None:
    folder = run_folder(smoke_config())
    run(smoke_config("seed=5")).rename(folder)
    (folder / "DONE").unlink()
    with pytest.raises(UsageError, match="is not the config of this run"):
        run(smoke_config())


@pytest.mark.parametrize("model", ["t5_smallest", "decoder_tiny"])
@pytest.mark.parametrize("tokenizer", ["digit", "subword"])
@pytest.mark.parametrize("loss", ["ce", "ntl_mse", "gce_ntl_was"])
def test_models_tokenizers_and_losses_combine(
    smoke_config: Callable[..., DictConfig], model: str, tokenizer: str, loss: str
) -> None:
    if (tokenizer, loss) == ("subword", "gce_ntl_was"):
        # Multi-digit pieces are not evenly spaced: the two do not fit, and the error says so.
        with pytest.raises(UsageError, match="evenly spaced.*tokenizer=digit"):
            run(smoke_config(f"model={model}", f"tokenizer={tokenizer}", f"loss={loss}"))
        return
    sizes = ["model.dim=16", "model.num_layers=1"] if model == "decoder_tiny" else []
    steps = ["trainer.max_steps=2", *sizes]
    folder = run(smoke_config(f"model={model}", f"tokenizer={tokenizer}", f"loss={loss}", *steps))
    assert 0 <= report_metrics(folder)["interpolate/accuracy"] <= 1


def test_a_damaged_token_cache_is_named(
    smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    run(smoke_config(f"cache_dir={cache}", "trainer.max_steps=1"))
    for path in (cache / "tokens").glob("*.arrow"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match="token cache .* is damaged: delete it"):
        run(smoke_config(f"cache_dir={cache}", "trainer.max_steps=2"))


@pytest.mark.parametrize(
    ("override", "message", "code"),
    [
        ("loss=nope", "Could not find 'loss/nope'", 2),
        ("trainer.nope=1", "Key 'nope' is not in struct", 2),
        ("trainer.batch_size=0", "trainer.batch_size=0: give at least 1", 2),
    ],
)
def test_errors_are_one_line(
    smoke_overrides: list[str], override: str, message: str, code: int
) -> None:
    process = start(*smoke_overrides, override)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0]
    assert "Traceback" not in errors and "Error executing job" not in errors


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+model.nope=1", "model.nope: T5 has no such setting"),
        ("dataset.path=/nowhere", "dataset.path=/nowhere"),
        ("results_dir=/dev/null/results", "set results_dir to a writable folder"),
        ("trainer.batch_size=4096", "only 240 rows"),
    ],
)
def test_errors_of_a_run_are_one_line(
    smoke_config: Callable[..., DictConfig],
    capfd: pytest.CaptureFixture[str],
    override: str,
    message: str,
) -> None:
    """What the script does with its config, less a process of its own."""
    with pytest.raises(SystemExit) as end, one_line_errors():
        run(smoke_config(override))
    assert end.value.code == 2
    errors = capfd.readouterr().err
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0]
    assert "Traceback" not in errors


def test_a_sweep_runs_in_parallel_and_only_what_is_missing(
    smoke_overrides: list[str], smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    done = run(smoke_config("loss=ntl_was", "seed=1"))
    before = (done / "report.json").stat().st_mtime_ns
    sweep = ["loss=ce,ntl_was", "seed=0,1", "hydra/launcher=local"]
    process = start("-m", *smoke_overrides, *sweep, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    for loss in ("ce", "ntl_was"):
        for seed in (0, 1):
            assert (run_folder(smoke_config(f"loss={loss}", f"seed={seed}")) / "DONE").exists()
    assert (done / "report.json").stat().st_mtime_ns == before


LONGER = ["trainer.max_steps=120", "trainer.checkpoint_every=7", "model.dropout=0.1"]


def test_a_run_killed_at_any_moment_ends_as_one_never_killed(
    smoke_overrides: list[str], smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    whole = run(smoke_config(*LONGER, f"results_dir={tmp_path / 'whole'}"))
    overrides = [*smoke_overrides, *LONGER]
    folder = run_folder(smoke_config(*LONGER))
    draw = random.Random()  # another moment each time: any must do
    for _ in range(3):
        process = start(*overrides)
        deadline = time.monotonic() + 120
        while not (folder / "config.yaml").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(draw.uniform(0.0, 4.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(*overrides)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert report_metrics(folder) == report_metrics(whole)
    last = [torch.load(f / "last.ckpt", weights_only=True)["module"] for f in (folder, whole)]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[1])


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_stop_saves_and_says_how_to_go_on(
    smoke_overrides: list[str], smoke_config: Callable[..., DictConfig], name: str
) -> None:
    endless = ["trainer.max_steps=100000", "trainer.checkpoint_every=100000"]
    folder = run_folder(smoke_config(*endless))
    process = start(*smoke_overrides, *endless)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.Signals[name])
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"stopped by {name}" in errors and "start the same command again" in errors
    assert (folder / "last.ckpt").exists() and not (folder / "DONE").exists()


ENDLESS = ["trainer.max_steps=100000", "trainer.checkpoint_every=100000"]


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def has_begun(folder: Path) -> bool:
    return (folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").stat().st_size > 0


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_no_job_outlives_its_sweep_and_all_save_first(
    smoke_overrides: list[str],
    smoke_config: Callable[..., DictConfig],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """Two jobs run and two wait; a process whose command line names our folder is one of ours."""
    folders = [run_folder(smoke_config(*ENDLESS, f"seed={seed}")) for seed in range(4)]
    sweep = ["seed=0,1,2,3", "hydra/launcher=local", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    process = start("-m", *smoke_overrides, *ENDLESS, *sweep)
    wait_until(lambda: all(has_begun(folder) for folder in folders[:2]))
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)  # a worker that trains on would keep stderr open
    assert process.returncode == (-number if number == signal.SIGKILL else 1), errors
    assert "Traceback" not in errors
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    for folder in folders[:2]:
        assert (folder / "last.ckpt").exists() and not (folder / "DONE").exists()
        assert not list(folder.glob("*.tmp"))
    assert not any(has_begun(folder) for folder in folders[2:])
    if number != signal.SIGKILL:
        assert "start the same command again" in errors


def test_a_sweep_of_one_job_after_the_other_stops_as_a_whole(
    smoke_overrides: list[str], smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    folders = [run_folder(smoke_config(*ENDLESS, f"seed={seed}")) for seed in range(2)]
    sweep = ["seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    process = start("-m", *smoke_overrides, *ENDLESS, *sweep)
    wait_until(lambda: has_begun(folders[0]))
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.endswith("interrupted\n"), errors
    assert (folders[0] / "last.ckpt").exists() and not folders[1].exists()


def test_a_hang_up_that_is_ignored_stops_nothing(
    smoke_overrides: list[str], smoke_config: Callable[..., DictConfig]
) -> None:
    """As under nohup: SIGHUP is ignored from the start."""
    folder = run_folder(smoke_config(*ENDLESS))
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    process = start(*smoke_overrides, *ENDLESS)
    signal.signal(signal.SIGHUP, previous)
    wait_until(lambda: has_begun(folder))
    process.send_signal(signal.SIGHUP)
    size = (folder / "metrics.jsonl").stat().st_size
    wait_until(lambda: (folder / "metrics.jsonl").stat().st_size > size)
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "stopped by SIGUSR1" in errors
