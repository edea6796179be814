"""Fingerprints of every data set at its default settings, as literal values.

They name the cached examples and stand in the reports of finished runs: when one changes, data are
made again under a new name. That is right where the examples change (raise the data set's version
then), and a mistake anywhere else.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from beyond_ce.configuration import build, compose
from beyond_ce.data import cache, files


@pytest.mark.parametrize(
    ("choices", "fingerprint"),
    [
        (
            ["arithmetic"],
            "5ef87eeb026882226390c626f3e2fe0c7e8eeb05e41433e2fa3c0e5b7a6cd307",
        ),
        (
            ["arithmetic", "dataset.operations=[1,2]"],
            "f501cc983b672f484ea7b8840013a36fdab3103e44f4a10e4f5552cf9cecb621",
        ),
        (
            ["mathematics"],
            "d4d503b7fd1484d9ebcd26b1f7860451ca27a0075be1039192872ce68e351032",
        ),
        (
            ["multiplication"],
            "c514b48623e8a39262f20c3a77db869af478deb36d2924b1a1f6723bf7e0f3e9",
        ),
        (
            ["sums"],
            "b15752141d58f0cf3f5202b3189f142ac6697bc4aa95895f11180e2af7c3fcb0",
        ),
        (
            ["polynomials"],
            "3d326af4dd3a43a28dcc9baf66e038ef42b912d03c4527bc6e0e301e5ff68fa7",
        ),
        (
            ["rjokes"],
            "a79ee6a91779d36314bb17644803d3b98a1d7dec6e6fdafab4cd86c2dfd72866",
        ),
        (
            ["gsm8k"],
            "ccf5cf2e65321dea7ff6711f8d8ff71557362dbe0bd31607a21bf79aada0097d",
        ),
        (
            ["multirc"],
            "fc4287b2c272299c57e2980507ee70433e720e98963809d42b92dfafb53e75b5",
        ),
        (
            ["books"],
            "c7c26c85c6eda52089caa36d1d9067dbb052a31accd75632613e1d636c051abb",
        ),
        (
            ["github_code"],
            "a16d42adb0fc9d3d70b1e49050a93978734c62243f7924dabd2d8beca5e706b4",
        ),
        (
            ["wikipedia"],
            "01035a11efd88991792eab7af580431787abaabb81e86728ec4bd73c9b2c2eec",
        ),
        (
            ["humaneval"],
            "3825a745f7f27b575b3e1dbff27451f8f2c8a4313353fd30ba12ce82133a106a",
        ),
        (
            ["mbpp"],
            "775e763d4b623761c8d7fea272c043602252776e3dee563b00f42eb6d35e43c0",
        ),
        (
            ["apps"],
            "48531584a3b065130753efac47febd7c510cba5452576121d7bc76a69aae4913",
        ),
        (
            ["code_contests"],
            "0989a46df54c7653e256751eba04d6cf2d1006db425f12b5e8e1419b045f8b5a",
        ),
        (
            ["code_contests_packed"],
            "411a9d32fa1d9195b32fdd8abf563af036e6271d0d45717cc5eadfdb1baf921c",
        ),
        (
            ["code_tasks"],
            "ae7bebd67e274d0bc2b14f497b817b78fccfecb678b04d0bf2c723f9e7762ba7",
        ),
        (
            ["code_tasks_packed"],
            "cb61705d2a760da6a67073c7e6a968e9755293f3a9e174cb912ca8df44a7aedc",
        ),
        (
            ["contest_tasks"],
            "ac3e5375676aeba2e9cffa0bdf980c8c278e499d88962d3c0744d9deea2833de",
        ),
        (
            ["generated_stories"],
            "4e343e3352a0e2f48ba91051ba5f6d063f87db51a245bda82c2313cd36df23ba",
        ),
        (
            ["tinystories"],
            "34dc2af851d45c62b944c2a582f7c2a6d8da1f67f9f1800431a46f2a5673a953",
        ),
        (
            ["tinystories_with_books"],
            "acc6a4737c553a5225221d7f7aa3467bc5a8414945bfaa6df63f72e41046dc8c",
        ),
    ],
)
def test_default_settings(
    choices: list[str], fingerprint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BEYOND_CE_DATA", raising=False)  # whose files would count by their content
    monkeypatch.setattr(files, "hub_revision", lambda name, kind: None)  # as without a network
    name, *settings = choices
    data = build(compose([f"dataset={name}", *settings]).dataset, "dataset")
    assert data.fingerprint() == fingerprint


@pytest.mark.parametrize(
    "name",
    [
        *("gsm8k", "multirc", "books", "github_code", "wikipedia", "tinystories"),
        *("humaneval", "mbpp", "apps", "code_contests", "code_contests_packed"),
    ],
)
def test_data_of_the_hub_count_by_their_commit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEYOND_CE_DATA", raising=False)
    found = set()
    for commit in (None, "1" * 40, "2" * 40):
        monkeypatch.setattr(files, "hub_revision", lambda name, kind, commit=commit: commit)
        found.add(build(compose([f"dataset={name}"]).dataset, "dataset").fingerprint())
    assert len(found) == 3


def test_files_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    data = build(compose(["dataset=text_files", f"dataset.path={tmp_path}"]).dataset, "dataset")
    expected = "8423a4ca11bcd2f71f8444e8e647245823bc8d87f7e0f173c1e25d49afdacdee"
    assert data.fingerprint() == expected


def test_the_cache_folder_is_named_by_data_set_and_fingerprint(tmp_path: Path) -> None:
    sizes = {"train_per_cell": 12, "validation_per_cell": 3, "test_per_cell": 4}
    overrides = [f"dataset.{key}={value}" for key, value in sizes.items()]
    config = compose(["dataset=multiplication", *overrides, f"cache_dir={tmp_path}"])
    data = build(config.dataset, "dataset")
    splits = data.load()
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert folder.name == f"multiplication-{data.fingerprint()[:16]}"
    assert set(splits) == {"interpolate", "extrapolate", "validation", "train"}
    written = cache.load_or_write(folder, lambda: pytest.fail("made again"), data.columns)
    assert {name: list(rows) for name, rows in written.items()} == {
        name: list(rows) for name, rows in splits.items()
    }
    assert all(rows.column_names == list(data.columns) for rows in splits.values())


JSON_LINES = ["train.jsonl", "test.jsonl", "val.jsonl"]
LINES = {
    "rjokes": {name: f"1\t{name} joke\n" for name in ("dev.tsv", "test.tsv", "train.tsv")},
    "gsm8k": {name: '{"question": "q", "answer": "#### 1"}\n' for name in JSON_LINES[:2]},
    "multirc": {name: '{"idx": 1}\n' for name in JSON_LINES[::2]},
    "summaries": {name: '{"document": "one"}\n' for name in JSON_LINES},
    "books": {"rows.jsonl": '{"text": "one"}\n'},
    "text_files": {"a.txt": "one\n", "b.txt": "two\n"},
    "humaneval": {"rows.jsonl": '{"task_id": "o1"}\n'},
    "mbpp": {"rows.jsonl": '{"task_id": 1}\n'},
    "apps": {name: '{"question": "one"}\n' for name in JSON_LINES[:2]},
    "code_contests": {name: '{"name": "one"}\n' for name in JSON_LINES},
    "mathematics": {},
    "arithmetic": {},
}


@pytest.mark.parametrize("name", LINES)
def test_every_file_counts_by_its_content(name: str, tmp_path: Path) -> None:
    """Not by its path: each byte of every file that is read is in the fingerprint."""

    def fingerprint() -> str:
        overrides = [f"dataset={name}", f"dataset.path={tmp_path}"]
        return build(compose(overrides).dataset, "dataset").fingerprint()

    contents = dict(LINES[name])
    if not contents:  # the official files of the generator
        plan = build(compose([f"dataset={name}"]).dataset, "dataset")._plan()
        contents = {f"{each.regime}/{each.module}.txt": "1 + 1?\n2\n" for each in plan}
    for file, text in contents.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    seen = {fingerprint()}
    assert fingerprint() in seen
    for file, text in contents.items():
        (tmp_path / file).write_text(text.replace("1", "3").replace("o", "u"))
        new = fingerprint()
        assert new not in seen, file
        seen.add(new)
