from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from beyond_ce.configuration import build, compose
from beyond_ce.data import GSM8K, files
from beyond_ce.errors import UsageError


def row(i: int, answer: str | None = None) -> dict[str, str]:
    solved = f"{i}+1 = <<{i}+1={i + 1}>>{i + 1} eggs.\n#### {i + 1}"
    return {"question": f"Question {i}? ", "answer": solved if answer is None else answer}


def write(folder: Path, train: list[Any], test: list[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for split, rows in (("train", train), ("test", test)):
        lines = "".join(json.dumps(each) + "\n" for each in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    return folder


def load(tmp_path: Path, **options: Any) -> dict[str, list[dict[str, str]]]:
    options = {"validation_size": 3, "seed": 0, "cache_dir": tmp_path / "cache", **options}
    return {split: list(rows) for split, rows in GSM8K(**options).load().items()}


def test_annotations_go_and_the_result_has_one_form(tmp_path: Path) -> None:
    answer = (
        "5 * $200 = $<<5*200=1000>>1,000\nin all <<1000*1080=1080000>>1,080,000.\n#### 1,080,000"
    )
    path = write(tmp_path / "data", [row(i) for i in range(9)], [row(0, answer), row(1)])
    splits = load(tmp_path, path=path)
    assert splits["test"][0] == {
        "prompt": "Question 0?",
        "answer": "5 * $200 = $1,000\nin all 1,080,000.\n#### 1080000",
        "task": "gsm8k",
    }
    assert splits["test"][1]["answer"] == "1+1 = 2 eggs.\n#### 2"


def test_validation_is_held_out_of_training(tmp_path: Path) -> None:
    path = write(tmp_path / "data", [row(i) for i in range(12)], [row(99)])
    splits = load(tmp_path, path=path)
    assert {split: len(rows) for split, rows in splits.items()} == {
        "test": 1,
        "validation": 3,
        "train": 9,
    }
    prompts = {split: {each["prompt"] for each in rows} for split, rows in splits.items()}
    assert not prompts["train"] & prompts["validation"]
    assert load(tmp_path, path=path, seed=1)["validation"] != splits["validation"]
    # A limit takes fewer of the same problems and leaves the others where they are.
    fewer = load(tmp_path, path=path, max_train=4, max_test=1)
    assert fewer["train"] == splits["train"][:4]
    assert fewer["validation"] == splits["validation"]


def test_the_fingerprint_is_of_content(tmp_path: Path) -> None:
    def fingerprint(path: Path, **options: Any) -> str:
        return GSM8K(
            **{"validation_size": 3, "seed": 0, "cache_dir": tmp_path, **options}, path=path
        ).fingerprint()

    one = write(tmp_path / "one", [row(i) for i in range(9)], [row(9)])
    two = write(tmp_path / "two", [row(i) for i in range(9)], [row(9)])
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(one) != fingerprint(one, max_train=2)
    write(two, [row(i) for i in range(9)], [row(8)])
    assert fingerprint(one) != fingerprint(two)


@pytest.mark.parametrize("answer", ["just 7 eggs", "7 eggs\n####", ""])
def test_a_row_without_a_result_is_named(tmp_path: Path, answer: str) -> None:
    path = write(tmp_path / "data", [row(0), row(1, answer)], [row(2)])
    with pytest.raises(UsageError, match=r"train\.jsonl, line 2: the answer has no final '#### N'"):
        load(tmp_path, path=path)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "data", [row(0), row(1)], [row(2)])
    with pytest.raises(UsageError, match="leaves nothing of the 2 training problems"):
        load(tmp_path, path=path, validation_size=2)
    with pytest.raises(UsageError, match="dataset.max_train=0: give at least 1"):
        load(tmp_path, path=path, max_train=0)
    with pytest.raises(UsageError, match=r"has no file train\.jsonl"):
        load(tmp_path, path=tmp_path)


def test_the_hub_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hub(name: str, config: str) -> dict[str, list[dict[str, str]]]:
        assert (name, config) == ("openai/gsm8k", "main")
        return {"train": [row(i) for i in range(9)], "test": [row(9)]}

    monkeypatch.delenv("BEYOND_CE_DATA", raising=False)
    monkeypatch.setattr(files, "load_hub", hub)
    overrides = ["dataset=gsm8k", f"cache_dir={tmp_path}", "dataset.validation_size=3"]
    data = build(compose(overrides).dataset, "dataset")
    assert len(data.load()["train"]) == 6


@pytest.mark.skipif("BEYOND_CE_DATA" not in os.environ, reason="needs BEYOND_CE_DATA")
def test_the_real_files(tmp_path: Path) -> None:
    splits = load(tmp_path, validation_size=500)
    assert {split: len(rows) for split, rows in splits.items()} == {
        "test": 1319,
        "validation": 500,
        "train": 6973,
    }
    for rows in splits.values():
        for each in rows:
            assert "<<" not in each["answer"]
            assert re.search(r"\n#### -?[0-9]+(\.[0-9]+)?$", each["answer"])
