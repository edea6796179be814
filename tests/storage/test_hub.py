"""Which commit a name on the hub stands for, with a network and without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beyond_ce.storage.hub import hub_revision


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    hub_revision.cache_clear()
    yield
    hub_revision.cache_clear()


def test_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def info(self: Any, name: str, repo_type: str, timeout: float) -> SimpleNamespace:
        asked.append((name, repo_type))
        return SimpleNamespace(sha="a" * 40)

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", info)
    assert hub_revision("a/b", "dataset") == hub_revision("a/b", "dataset") == "a" * 40
    assert asked == [("a/b", "dataset")]


def test_without_a_network_its_local_cache_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", fail)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for folder, commit in (("datasets--a--b", "1"), ("models--gpt2", "2")):
        (tmp_path / folder / "refs").mkdir(parents=True)
        (tmp_path / folder / "refs" / "main").write_text(commit * 40)
    assert hub_revision("a/b", "dataset") == "1" * 40
    assert hub_revision("gpt2", "model") == "2" * 40
    assert hub_revision("a/b", "model") is None
    assert hub_revision("/no/such folder", "model") is None
