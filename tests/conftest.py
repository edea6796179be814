"""Shared fixtures: small texts and data, the real config shrunk to seconds, an interrupted run."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from beyond_ce.configuration import compose
from beyond_ce.runs.experiment import run
from beyond_ce.training import Stopped, Trainer
from beyond_ce.training.session import Session


@pytest.fixture(scope="session")
def official_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as mathematics_dataset-v1.0, with a few hundred sums."""
    folder = tmp_path_factory.mktemp("official") / "mathematics_dataset-v1.0"
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
    return folder


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the whole test session, so that data and tokenizers are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def smoke_overrides(official_data: Path, cache_dir: Path, tmp_path: Path) -> list[str]:
    """Overrides that make `scripts/train.py` a run of a second or two, without generating data."""
    return [
        "experiment=ntl/arithmetic",
        "scale=smoke",
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
