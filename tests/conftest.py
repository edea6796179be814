"""Shared fixtures: small texts and data, the real config shrunk to seconds, an interrupted run."""

from __future__ import annotations

import gc
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import real_slurm
import torch
from filelock import FileLock
from omegaconf import DictConfig

from beyond_ce.configuration import compose
from beyond_ce.runs.experiment import run
from beyond_ce.training import Stopped, Trainer
from beyond_ce.training.session import Session

# One thread a process, here and in what tests start: `make test` runs a process on every core.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# Under nohup it is ignored, here and in what tests start: many stop a run with it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Leaves what is there for good, modules and thousands of tests, out of garbage collection."""
    gc.collect()
    gc.freeze()


# The same examples every time, so that a test fails for what changed and not by chance.
# `make test ARGS=--hypothesis-profile=random` looks for new ones.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.register_profile("random", deadline=None)
hypothesis.settings.load_profile("fixed")


@pytest.fixture(scope="session")
def session_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test session share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def official_data(session_dir: Path) -> Path:
    """A folder laid out as mathematics_dataset-v1.0, with a few hundred sums."""
    folder = session_dir / "official" / "mathematics_dataset-v1.0"
    with FileLock(session_dir / "official.lock"):
        if not folder.exists():
            _write_official_data(folder)
    return folder


def _write_official_data(folder: Path) -> None:
    draw = random.Random(0)
    files = {
        "train-easy": (120, 9, "arithmetic__add_sub_multiple"),
        "train-medium": (120, 99, "arithmetic__add_sub_multiple"),
        "train-hard": (120, 999, "arithmetic__add_sub_multiple"),
        "interpolate": (40, 999, "arithmetic__add_sub_multiple"),
        "extrapolate": (40, 9999, "arithmetic__add_sub_multiple_longer"),
    }
    for regime, (count, largest, module) in files.items():
        lines = []
        for _ in range(count):
            a, b = draw.randint(-largest, largest), draw.randint(0, largest)
            lines += [f"What is {a} + {b} - {count}?", str(a + b - count)]
        (folder / regime).mkdir(parents=True)
        (folder / regime / f"{module}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def cache_dir(session_dir: Path) -> Path:
    """One cache for the whole test session, so that data and tokenizers are made once."""
    folder = session_dir / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def smoke_overrides(official_data: Path, cache_dir: Path, tmp_path: Path) -> list[str]:
    """Overrides that make `scripts/train.py` a run of a second or two, without generating data."""
    return [
        "experiment=ntl/arithmetic/smoke",
        f"dataset.path={official_data}",
        "dataset.train_per_difficulty=80",
        "dataset.validation_per_difficulty=10",
        "dataset.test_size=20",
        f"results_dir={tmp_path / 'results'}",
        f"cache_dir={cache_dir}",
        "trainer.progress=false",
    ]


@pytest.fixture
def smoke_config(smoke_overrides: list[str]) -> Callable[..., DictConfig]:
    """`smoke_config("loss=ntl_was", ...)` composes the shrunk config with further overrides."""
    return lambda *overrides: compose([*smoke_overrides, *overrides])


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """The environment of processes that use a SLURM, which is there for the tests of a worker."""
    if reason := real_slurm.why_not():
        pytest.skip(reason)
    with real_slurm.slurm() as conf:
        yield {**os.environ, "SLURM_CONF": str(conf)}


@pytest.fixture(scope="session")
def questions() -> list[str]:
    """Texts in the manner of DeepMind's arithmetic, questions and answers."""
    draw = random.Random(0)

    def number() -> str:
        text = str(draw.randint(-(10 ** draw.randint(1, 6)), 10 ** draw.randint(1, 6)))
        return f"{text}.{draw.randint(1, 999)}" if draw.random() < 0.3 else text

    forms = ["What is {} - ({} + {})?", "Calculate {} + {} - {}.", "{} + {} - {}", "{}/{} * {}"]
    return [draw.choice(forms).format(number(), number(), number()) for _ in range(2000)]


@pytest.fixture
def run_in_two(monkeypatch: pytest.MonkeyPatch) -> Callable[[DictConfig], Path]:
    """`run` of a config, stopped before step 5 and started again."""

    step = Trainer._step

    def stopped(self: Trainer, session: Session) -> None:
        if session.progress.step == 5:
            raise Stopped("killed")
        step(self, session)

    def run_twice(config: DictConfig) -> Path:
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(Trainer, "_step", stopped)
            run(config)
        return run(config)

    return run_twice
