from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from beyond_ce.data import MultiRC
from beyond_ce.errors import UsageError


def passage(i: int, questions: int = 2, text: str | None = None) -> dict[str, Any]:
    """A row of SuperGLUE's file: question j of passage i has the answers "j" and "two, j"."""
    return {
        "idx": i,
        "passage": {
            "text": text or f"Passage {i} has  some words. ",
            "questions": [
                {
                    "idx": 10 * i + j,
                    "question": f"Which is {j}?",
                    "answers": [
                        {"idx": 0, "text": f"{j} ", "label": 1},
                        {"idx": 1, "text": "never", "label": 0},
                        {"idx": 2, "text": f"two, {j}", "label": 1},
                    ],
                }
                for j in range(questions)
            ],
        },
    }


def flat(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The hub's form of SuperGLUE's rows: one answer a row, sentences numbered in HTML."""
    return [
        {
            "paragraph": f"<b>Sent 1: </b>{row['passage']['text']}<br>",
            "question": question["question"],
            "answer": answer["text"],
            "idx": {"paragraph": row["idx"], "question": question["idx"], "answer": answer["idx"]},
            "label": answer["label"],
        }
        for row in rows
        for question in row["passage"]["questions"]
        for answer in question["answers"]
    ]


def write(folder: Path, train: list[Any], val: list[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for split, rows in (("train", train), ("val", val)):
        lines = "".join(json.dumps(each) + "\n" for each in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    return folder


def load(tmp_path: Path, **options: Any) -> dict[str, list[dict[str, str]]]:
    options = {"validation_size": 2, "seed": 0, "cache_dir": tmp_path / "cache", **options}
    return {split: list(rows) for split, rows in MultiRC(**options).load().items()}


TRAIN = [passage(i) for i in range(6)]
VAL = [passage(9)]


def test_the_correct_answers_are_joined(tmp_path: Path) -> None:
    splits = load(tmp_path, path=write(tmp_path / "data", TRAIN, VAL))
    assert splits["test"] == [
        {
            "prompt": f"Passage 9 has some words.\n\nQuestion: Which is {j}?",
            "answer": f"{j} | two, {j}",
            "task": "multirc",
        }
        for j in range(2)
    ]


def test_the_hubs_flat_rows_give_the_same(tmp_path: Path) -> None:
    nested = load(tmp_path, path=write(tmp_path / "nested", TRAIN, VAL))
    assert load(tmp_path, path=write(tmp_path / "flat", flat(TRAIN), flat(VAL))) == nested


def test_no_passage_is_on_both_sides(tmp_path: Path) -> None:
    splits = load(tmp_path, path=write(tmp_path / "data", TRAIN, VAL))
    passages = {
        split: {row["prompt"].split("\n\n")[0] for row in rows} for split, rows in splits.items()
    }
    assert len(passages["validation"]) == 2 and len(splits["validation"]) == 4
    assert len(passages["train"]) == 4 and len(splits["train"]) == 8
    assert not passages["validation"] & passages["train"]


def test_questions_without_a_correct_answer_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hard = passage(7)
    for answer in hard["passage"]["questions"][0]["answers"]:
        answer["label"] = 0
    with caplog.at_level(logging.WARNING):
        splits = load(tmp_path, path=write(tmp_path / "data", TRAIN, [hard]))
    assert [row["answer"] for row in splits["test"]] == ["1 | two, 1"]
    assert "1 of 2 questions have no correct answer" in caplog.text


def test_passages_are_cut_and_questions_are_not(tmp_path: Path) -> None:
    long = [passage(9, questions=1, text="one two three four five six seven")]
    path = write(tmp_path / "data", TRAIN, long)
    for most, prompt in [
        (99, "one two three four five six seven\n\nQuestion: Which is 0?"),
        (6, "one two\n\nQuestion: Which is 0?"),
        (2, "Question: Which is 0?"),
    ]:
        assert load(tmp_path, path=path, max_prompt_words=most)["test"][0]["prompt"] == prompt


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "data", TRAIN, VAL)
    with pytest.raises(UsageError, match="leaves none of the 6 training passages"):
        load(tmp_path, path=path, validation_size=6)
    with pytest.raises(UsageError, match="dataset.max_prompt_words=0"):
        load(tmp_path, path=path, max_prompt_words=0)


def test_rows_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    withheld = passage(9)
    del withheld["passage"]["questions"][1]["answers"][0]["label"]
    path = write(tmp_path / "data", TRAIN, [passage(8), withheld])
    with pytest.raises(UsageError, match=r"val\.jsonl, line 2: an answer has no label"):
        load(tmp_path, path=path)
    write(path, [{"passage": "text"}], VAL)
    with pytest.raises(UsageError, match=r"train\.jsonl, line 1 is not a row of MultiRC"):
        load(tmp_path, path=path)


@pytest.mark.skipif("BEYOND_CE_DATA" not in os.environ, reason="needs BEYOND_CE_DATA")
def test_the_real_files(tmp_path: Path) -> None:
    splits = load(tmp_path, validation_size=45, max_prompt_words=100)
    assert {split: len(rows) for split, rows in splits.items()} == {
        "test": 950,
        "validation": 506,
        "train": 4602,
    }
    assert all(row["answer"] for rows in splits.values() for row in rows)
    assert max(len(row["prompt"].split()) for row in splits["train"]) == 100


@pytest.mark.skipif("BEYOND_CE_DATA" not in os.environ, reason="needs BEYOND_CE_DATA")
def test_no_real_passage_is_on_two_sides(tmp_path: Path) -> None:
    splits = load(tmp_path, validation_size=45)
    passages = [
        {row["prompt"].rpartition("\n\nQuestion: ")[0] for row in rows} for rows in splits.values()
    ]
    assert len(set.union(*passages)) == sum(map(len, passages))
