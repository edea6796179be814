from __future__ import annotations

import gzip
import io
import logging
import os
import tempfile
from collections.abc import Iterable
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from beyond_ce.configuration import build, compose
from beyond_ce.data import RJokes
from beyond_ce.data.rjokes import CUE
from beyond_ce.errors import RunError, UsageError

OPTIONS: dict[str, Any] = {
    **{"validation_size": 3, "max_train": None, "max_test": None, "max_characters": None},
    "seed": 0,
}
DEV = [(i % 12, f"dev joke {i}") for i in range(20)]
TEST = [(i % 12, f"test joke {i}") for i in range(9)]
TRAIN = [(i % 12, f"train joke {i}") for i in range(30)]


def text(rows: Iterable[tuple[object, str]]) -> bytes:
    return "".join(f"{score}\t{joke}\n" for score, joke in rows).encode()


def write(folder: Path, **files: Iterable[tuple[object, str]]) -> Path:
    folder.mkdir(exist_ok=True)
    for stem, rows in files.items():
        (folder / f"{stem}.tsv").write_bytes(text(rows))
    return folder


def jokes(folder: Path, **options: Any) -> RJokes:
    return RJokes(**{**OPTIONS, "cache_dir": folder.parent / "cache", "path": folder, **options})


def load(folder: Path, **options: Any) -> dict[str, list[dict[str, str]]]:
    return {split: list(rows) for split, rows in jokes(folder, **options).load().items()}


def prompts(rows: list[dict[str, str]]) -> list[str]:
    return [row["prompt"] for row in rows]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "rjokes", dev=DEV, test=TEST, train=TRAIN)


def test_a_joke_asks_for_its_score(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    splits = load(folder)
    assert splits["test"][0] == {
        "prompt": "test joke 0\nScore:",
        "answer": "0",
        "task": "rjokes",
    }
    assert {split: len(rows) for split, rows in splits.items()} == {
        "test": 9,
        "validation": 3,
        "train": 30,
    }
    assert all(prompt.startswith("dev") for prompt in prompts(splits["validation"]))
    assert prompts(splits["train"]) == [joke + CUE for _, joke in TRAIN]
    assert not caplog.text


def test_without_a_file_train_the_rest_of_dev_is_for_training(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = jokes(folder).fingerprint()
    (folder / "train.tsv").unlink()
    with caplog.at_level(logging.WARNING):
        splits = load(folder)
    assert "no file train.tsv: training on dev.tsv instead" in caplog.text
    assert len(caplog.records) == 1
    assert len(splits["train"]) == 17
    held_out, kept = prompts(splits["validation"]), prompts(splits["train"])
    assert sorted(held_out + kept) == sorted(joke + CUE for _, joke in DEV)
    assert jokes(folder).fingerprint() != whole


pool = st.lists(st.tuples(st.integers(0, 11), st.sampled_from("abcdefgh")), min_size=1)


@settings(max_examples=40, deadline=None)
@given(dev=pool, test=pool, train=st.none() | pool, seed=st.integers(0, 99))
def test_no_joke_is_on_two_sides(dev: list, test: list, train: list | None, seed: int) -> None:
    tested = {joke for _, joke in test}
    assume(len([joke for _, joke in dev if joke not in tested]) > 1)
    with tempfile.TemporaryDirectory() as root:
        files = {"dev": dev, "test": test} | ({} if train is None else {"train": train})
        splits = load(write(Path(root) / "rjokes", **files), validation_size=1, seed=seed)
    assert [(int(row["answer"]), row["prompt"].removesuffix(CUE)) for row in splits["test"]] == test
    sides = [set(prompts(splits[split])) for split in ("test", "validation", "train")]
    assert len(set.union(*sides)) == sum(map(len, sides))


def test_sizes(folder: Path) -> None:
    whole, cut = load(folder), load(folder, max_train=7, max_test=4, max_characters=6)
    assert {split: len(rows) for split, rows in cut.items()} == {
        "test": 4,
        "validation": 3,
        "train": 7,
    }
    assert set(prompts(cut["test"])) == {"test j" + CUE}
    fewer = load(folder, max_train=7, max_test=4)
    for split in ("test", "train"):
        # A part of the same jokes in the order of the file.
        assert fewer[split] == [row for row in whole[split] if row in fewer[split]]
    assert fewer["validation"] == whole["validation"]
    assert load(folder, max_train=99, max_test=99) == whole
    assert load(folder, seed=1)["validation"] != whole["validation"]


def test_the_fingerprint_is_of_content_and_arguments(tmp_path: Path, folder: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for stem, rows in {"dev": DEV, "test": TEST, "train": TRAIN}.items():
        (elsewhere / f"{stem}.tsv.gz").write_bytes(gzip.compress(text(rows)))
    assert jokes(elsewhere).fingerprint() == jokes(folder).fingerprint()
    assert jokes(folder, max_train=3).fingerprint() != jokes(folder).fingerprint()
    write(folder, test=TEST[1:])
    assert jokes(elsewhere).fingerprint() != jokes(folder).fingerprint()


@pytest.mark.parametrize("stem", ["dev", "test", "train"])
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("private words", "has no tab"),
        ("", "has no tab"),
        *((f"{s}\tprivate words", "does not start with a score") for s in ("12", "-1", "3.5")),
        *((f"{s}\tprivate words", "does not start with a score") for s in ("", "x", "9" * 5000)),
    ],
)
def test_a_line_that_cannot_be_is_named_and_not_quoted(
    folder: Path, stem: str, line: str, problem: str
) -> None:
    with (folder / f"{stem}.tsv").open("a") as file:
        file.write(f"{line}\n")
    number = len({"dev": DEV, "test": TEST, "train": TRAIN}[stem]) + 1
    with pytest.raises(UsageError, match=rf"{stem}\.tsv, line {number} {problem}") as error:
        load(folder)
    assert "private" not in str(error.value) and "\n" not in str(error.value)


def test_what_is_missing_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="dataset.path=.*nowhere is not a folder"):
        jokes(tmp_path / "nowhere")
    for stem in ("dev", "test"):
        content = (folder / f"{stem}.tsv").read_bytes()
        (folder / f"{stem}.tsv").unlink()
        with pytest.raises(UsageError, match=rf"has no file {stem}\.tsv"):
            jokes(folder)
        (folder / f"{stem}.tsv").write_bytes(content)


def test_impossible_sizes_are_refused(folder: Path) -> None:
    for key in ("validation_size", "max_train", "max_test", "max_characters"):
        with pytest.raises(UsageError, match=f"dataset.{key}=0: give at least 1"):
            jokes(folder, **{key: 0})
    with pytest.raises(UsageError, match="validation_size=20 leaves none of the 20 jokes of dev"):
        load(folder, validation_size=20)


def test_without_a_folder_the_files_are_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        fetched.append(url.rsplit("/", 1)[1])
        rows = {"dev": DEV, "test": TEST, "train": TRAIN}[fetched[-1].split(".")[0]]
        return io.BytesIO(gzip.compress(text(rows)))

    monkeypatch.delenv("BEYOND_CE_DATA", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    overrides = ["dataset=rjokes", f"cache_dir={tmp_path}", "dataset.validation_size=3"]
    data = build(compose(overrides).dataset, "dataset")
    data.fingerprint()
    assert not fetched  # a fingerprint needs no network
    assert len(data.load()["train"]) == 30
    assert sorted(fetched) == ["dev.tsv.gz", "test.tsv.gz", "train.tsv.gz"]
    build(compose([*overrides, "dataset.max_train=5"]).dataset, "dataset").load()
    assert len(fetched) == 3


@pytest.mark.parametrize("error", [OSError("no route"), IncompleteRead(b"")])
def test_no_network_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def urlopen(*_: object, **__: object) -> None:
        raise error

    monkeypatch.delenv("BEYOND_CE_DATA", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    with pytest.raises(RunError, match=r"cannot fetch .*dev\.tsv\.gz .*dataset\.path") as found:
        jokes(tmp_path / "x", path=None).load()
    assert "\n" not in str(found.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if "partial" in path.name]


@pytest.mark.skipif("BEYOND_CE_DATA" not in os.environ, reason="needs BEYOND_CE_DATA")
def test_the_real_files(tmp_path: Path) -> None:
    splits = load(tmp_path / "x", path=None, validation_size=2000)
    counts = {split: len(rows) for split, rows in splits.items()}
    trains = (Path(os.environ["BEYOND_CE_DATA"]) / "rjokes").glob("train.tsv*")
    if not any(trains):
        assert counts == {"test": 43246, "validation": 2000, "train": 40847}
    scores = {split: {int(row["answer"]) for row in rows} for split, rows in splits.items()}
    assert scores["test"] == scores["train"] == set(range(12)) > scores["validation"]
    tested = set(prompts(splits["test"]))
    assert tested.isdisjoint(prompts(splits["train"]))
    assert tested.isdisjoint(prompts(splits["validation"]))


def test_the_cue_can_be_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", dev=DEV, test=TEST, train=TRAIN)
    bare = load(folder, cue="")
    assert [row["prompt"] + CUE for row in bare["test"]] == prompts(load(folder)["test"])
    assert jokes(folder, cue="").fingerprint() != jokes(folder).fingerprint()
    assert jokes(folder, cue=CUE).fingerprint() == jokes(folder).fingerprint()
