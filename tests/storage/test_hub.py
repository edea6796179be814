"""Which commit and files a name on the hub stands for, with a network and without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beyond_ce.errors import UsageError
from beyond_ce.storage.hub import checkpoint_folder, hub_revision


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


def test_a_checkpoint_is_a_folder_or_else_downloaded_at_the_commit_that_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def download(name: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert "*.safetensors" in allow_patterns
        assert not any("bin" in pattern for pattern in allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(
        "huggingface_hub.HfApi.repo_info", lambda *_, **__: SimpleNamespace(sha="a" * 40)
    )
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert checkpoint_folder(tmp_path, "model.pretrained") == tmp_path
    assert not asked
    assert checkpoint_folder("org/model", "model.pretrained") == tmp_path
    assert asked == [("org/model", "a" * 40)]


def test_a_name_that_is_no_checkpoint_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", fail)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(UsageError, match=r"model.pretrained=a/b is no folder .*\(no network\)"):
        checkpoint_folder("a/b", "model.pretrained")
