"""Shared fixtures: small official-format data, and the real config shrunk to seconds."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from beyond_ce.configuration import compose


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
