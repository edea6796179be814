"""Questions of local files, as the rows on the hub that the harness reads."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from beyond_ce.data import Questions
from beyond_ce.data.questions import LOCAL_TASKS
from beyond_ce.errors import RunError, UsageError

CHOICES = {"question": "What is it?", "choices": ["a", "b", "c", "d"], "label": 2}
LETTERS = {"text": ["a", "b", "c", "d"], "label": ["A", "B", "C", "D"]}


def write(folder: Path, name: str, *rows: dict[str, Any]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def questions(root: Path, task: str, shots: int = 0) -> Questions:
    return Questions([task], {task: shots}, root / "cache", path=root)


CASES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "arc_challenge": (
        "arc/arc_challenge_test",
        CHOICES,
        "test",
        {"question": "What is it?", "choices": LETTERS, "answerKey": "C"},
    ),
    "arc_easy": (
        "arc/arc_easy_test",
        CHOICES,
        "test",
        {"question": "What is it?", "choices": LETTERS, "answerKey": "C"},
    ),
    "copa": (
        "copa/val",
        {"premise": "P.", "choice1": "A.", "choice2": "B.", "question": "cause", "label": 1},
        "validation",
        {"premise": "P.", "choice1": "A.", "choice2": "B.", "question": "cause", "label": 1},
    ),
    "hellaswag": (
        "hellaswag/hellaswag_val",
        {"activity_label": "Roof", "ctx": "A man sits. he", "endings": ["a", "b"], "label": 0},
        "validation",
        {
            "activity_label": "Roof",
            "ctx_a": "A man sits.",
            "ctx_b": "he",
            "endings": ["a", "b"],
            "label": "0",
        },
    ),
    "mmlu": (
        "mmlu/mmlu_test",
        {"subject": "anatomy", **CHOICES},
        "test",
        {
            "subject": "anatomy",
            "question": "What is it?",
            "choices": ["a", "b", "c", "d"],
            "answer": 2,
        },
    ),
    "nq_open": (
        "nq_open/NQ-open.dev",
        {"question": "who", "answer": ["x", "y"]},
        "validation",
        {"question": "who", "answer": ["x", "y"]},
    ),
    "openbookqa": (
        "openbookqa/openbookqa_test",
        CHOICES,
        "test",
        {"question_stem": "What is it?", "choices": LETTERS, "answerKey": "C"},
    ),
    "piqa": (
        "piqa/piqa_validation",
        {"question": "how", "choices": ["a", "b"], "label": 1},
        "validation",
        {"goal": "how", "sol1": "a", "sol2": "b", "label": 1},
    ),
    "social_iqa": (
        "siqa/siqa_dev",
        {"question": "T. went. Why did he?", "choices": ["a", "b", "c"], "label": 0},
        "validation",
        {
            "context": "T. went.",
            "question": "Why did he?",
            "answerA": "a",
            "answerB": "b",
            "answerC": "c",
            "label": "1",
        },
    ),
    "triviaqa": (
        "triviaqa/validation",
        {"question": "who", "answer": {"value": "x", "aliases": ["x", "X."]}},
        "validation",
        {"question": "who", "answer": {"aliases": ["x", "X."]}},
    ),
    "winogrande": (
        "winogrande/winogrande_xl_validation",
        {"question": "S was than M so _ won.", "choices": ["S", "M"], "label": 0},
        "validation",
        {"sentence": "S was than M so _ won.", "option1": "S", "option2": "M", "answer": "1"},
    ),
}


def test_every_task_has_a_case() -> None:
    assert sorted(CASES) == sorted(LOCAL_TASKS)


@pytest.mark.parametrize("task", CASES)
def test_a_line_becomes_a_row_of_the_hubs(task: str, tmp_path: Path) -> None:
    name, line, split, row = CASES[task]
    write(tmp_path, f"{name}.jsonl.gz", line)
    assert questions(tmp_path, task).rows(task) == {split: [row]}


@pytest.mark.parametrize("task", CASES)
def test_a_line_of_another_kind_is_refused_in_one_line(task: str, tmp_path: Path) -> None:
    name = f"{CASES[task][0]}.jsonl.gz"
    for line in ({"other": 1}, {**CASES[task][1], "label": 9, "answer": 3}):
        write(tmp_path, name, line)
        with pytest.raises(UsageError, match="line 1: .*; is this the right file") as error:
            questions(tmp_path, task).rows(task)
        assert "\n" not in str(error.value)
    write(tmp_path, name)
    with pytest.raises(RunError, match="is empty: fetch it again"):
        questions(tmp_path, task).rows(task)


@pytest.mark.parametrize(
    ("context", "parts"),
    [
        ("A man is on a roof. he", ("A man is on a roof.", "he")),
        ("How to bake. Take flour. Add water.", ("How to bake. Take flour. Add water.", "")),
        ('He says "no." the man', ('He says "no."', "the man")),
        ("no sentence", ("no sentence", "")),
    ],
)
def test_an_unfinished_sentence_of_hellaswag(
    context: str, parts: tuple[str, str], tmp_path: Path
) -> None:
    line = {**CASES["hellaswag"][1], "ctx": context}
    write(tmp_path, "hellaswag/hellaswag_val.jsonl.gz", line)
    rows = questions(tmp_path, "hellaswag").rows("hellaswag")
    assert rows is not None
    assert tuple(rows["validation"][0][key] for key in ("ctx_a", "ctx_b")) == parts


def test_examples_are_not_asked(tmp_path: Path) -> None:
    lines = [{"question": f"{i}", "answer": ["x"]} for i in range(25)]
    write(tmp_path, "nq_open/NQ-open.dev.jsonl.gz", *lines)
    assert len((questions(tmp_path, "nq_open").rows("nq_open") or {})["validation"]) == 25
    rows = questions(tmp_path, "nq_open", shots=2).rows("nq_open")
    assert rows is not None
    assert [row["question"] for row in rows["train"]] == ["0", "10", "20"]
    assert len(rows["validation"]) == 22
    write(tmp_path, "nq_open/NQ-open.train.jsonl.gz", {"question": "t", "answer": ["x"]})
    rows = questions(tmp_path, "nq_open", shots=2).rows("nq_open")
    assert rows is not None and len(rows["validation"]) == 25 and len(rows["train"]) == 1


def test_where_questions_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEYOND_CE_DATA", raising=False)
    assert Questions(["copa"], {}, tmp_path).hub_name == "aps/super_glue"
    assert Questions(["copa"], {}, tmp_path).rows("copa") is None
    write(tmp_path, "copa/val.jsonl.gz", CASES["copa"][1])
    monkeypatch.setenv("BEYOND_CE_DATA", str(tmp_path))
    here = Questions(["copa", "some_task"], {}, tmp_path)
    assert here.hub_name is None and here.rows("copa") and here.rows("some_task") is None
    (tmp_path / "piqa").mkdir()
    with pytest.raises(UsageError, match="has no file piqa_validation"):
        Questions(["piqa"], {}, tmp_path)
    with pytest.raises(UsageError, match="is not a folder; give one with the folders"):
        Questions(["piqa"], {}, tmp_path, path=tmp_path / "none")


def test_content_tasks_and_shots_are_the_fingerprint(tmp_path: Path) -> None:
    write(tmp_path, "copa/val.jsonl.gz", CASES["copa"][1])
    first = questions(tmp_path, "copa").fingerprint()
    assert first == questions(tmp_path, "copa").fingerprint()
    assert first != questions(tmp_path, "copa", shots=1).fingerprint()
    write(tmp_path, "copa/val.jsonl.gz", CASES["copa"][1], CASES["copa"][1])
    assert first != questions(tmp_path, "copa").fingerprint()


@pytest.mark.parametrize(
    ("shots", "message"),
    [
        ({"copa": -1}, "copa=-1: give at least 0"),
        ([1], "give numbers of examples by task"),
    ],
)
def test_shots_are_numbers(shots: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        Questions(["copa"], shots, tmp_path)
