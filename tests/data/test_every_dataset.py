"""What holds for every data set of conf/dataset, a new one included."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from choices import choices
from omegaconf import OmegaConf

from beyond_ce.configuration import build, compose
from beyond_ce.data import Corpus

NAMES = choices("dataset")


def made(name: str, cache_dir: Path) -> Any:
    needed = {"hub_corpus": ["dataset.hub=a/b"], "text_files": [f"dataset.path={__file__}"]}
    config = compose([f"dataset={name}", *needed.get(name, []), f"cache_dir={cache_dir}"])
    assert {"_target_", "cache_dir"} <= set(config.dataset)
    assert OmegaConf.to_container(config.dataset, resolve=True)["cache_dir"] == str(cache_dir)
    return build(config.dataset, "dataset")


@pytest.mark.parametrize("name", NAMES)
def test_it_has_what_a_run_asks_of_it(name: str, tmp_path: Path) -> None:
    data = made(name, tmp_path)
    assert data.name and isinstance(data.name, str)
    assert data.test_splits and not {"train", "validation"} & set(data.test_splits)
    for method in ("fingerprint", "load"):
        assert not inspect.signature(getattr(data, method)).parameters
    if isinstance(data, Corpus):
        assert data.sequence_length > 1
    assert not list(tmp_path.iterdir()), "making it must not read, write or download"


def test_names_are_distinct(tmp_path: Path) -> None:
    """Caches are named by them."""
    assert len({made(name, tmp_path).name for name in NAMES}) == len(NAMES)
