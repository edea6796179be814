"""What holds for every data set of conf/dataset, a new one included."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from choices import choices, is_preset

from beyond_ce.configuration import build, compose
from beyond_ce.data import PackedData

NAMES = choices("dataset")
NEEDED = {"hub_corpus": ["dataset.hub=a/b"], "text_files": [f"dataset.path={__file__}"],
          "own_text": ["dataset.writer.model=a/b"]}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(cache: Path) -> dict[str, Any]:
    configs = {
        name: compose([f"dataset={name}", *NEEDED.get(name, []), f"cache_dir={cache}"]).dataset
        for name in NAMES
    }
    assert all(config.cache_dir == str(cache) for config in configs.values())
    return {name: build(config, "dataset") for name, config in configs.items()}


@pytest.mark.parametrize("name", NAMES)
def test_it_has_what_a_run_asks_of_it(name: str, made: dict[str, Any]) -> None:
    data = made[name]
    assert data.name and isinstance(data.name, str)
    assert data.test_splits and not {"train", "validation"} & set(data.test_splits)
    for method in ("fingerprint", "load"):
        assert not inspect.signature(getattr(data, method)).parameters
    if isinstance(data, PackedData):
        assert data.sequence_length > 1


def test_making_it_does_nothing_yet(made: dict[str, Any], cache: Path) -> None:
    """Data are read, generated or downloaded when they are loaded."""
    assert not list(cache.iterdir())


def test_names_are_distinct(made: dict[str, Any]) -> None:
    """Caches are named by them."""
    names = [data.name for name, data in made.items() if not is_preset("dataset", name)]
    assert len(set(names)) == len(names) > 1
