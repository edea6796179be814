"""HumanEval, MBPP, APPS and CodeContests, from small files of their schemas."""

from __future__ import annotations

import ast
import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from beyond_ce.configuration import build, compose
from beyond_ce.data import APPS, MBPP, CodeContests, HumanEval, Problem, ProgramData, files
from beyond_ce.data.programs.problem import FunctionTests, InputOutputTests
from beyond_ce.errors import RunError, UsageError
from beyond_ce.evaluation.code_execution import run_tests

HUMAN = {
    "task_id": "HumanEval/0",
    "prompt": "def add(a, b):\n    '''Sum.'''\n",
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
}


def mbpp_row(number: int) -> dict[str, Any]:
    return {
        "task_id": number,
        "text": f"Add {number}. ",
        "code": f"def add(x):\r\n  return x + {number}\r\n",
        "test_list": [f"assert add({i}) == {i + number}" for i in range(3)],
        "test_setup_code": "one = 1" if number == 11 else "",
        "challenge_test_list": ["assert False"],
    }


def apps_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "problem_id": number,
        "question": f"Echo {number}.",
        "solutions": json.dumps([f"print({number})", "print(input())\r\n"]),
        "input_output": json.dumps({"inputs": ["a\n", ["b", "c"]], "outputs": ["a\n", "b c"]}),
        "difficulty": "introductory",
        "starter_code": "",
        **changes,
    }


def contest_row(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"Print it, {name}. ",
        "public_tests": {"input": ["1\n"], "output": ["1\n"]},
        "private_tests": {"input": ["2\n"], "output": ["2\n"]},
        "generated_tests": {"input": ["3\n"], "output": ["3\n"]},
        "solutions": {
            "language": [3, 1, 2, 3, 3],
            "solution": ["print(input())", "print raw_input()", "int main", "a\r\nb", "a\nb\n"],
        },
        "incorrect_solutions": {"language": [3, 4], "solution": ["print(0)", "class A"]},
        "time_limit": {"seconds": 1, "nanos": 500_000_000},
        "memory_limit_bytes": 256_000_000,
        "input_file": "",
        "output_file": "",
        **changes,
    }


PROGRAMS = ("solutions", "incorrect_solutions")
TESTS = ("public_tests", "private_tests", "generated_tests")
NO_PROGRAMS = {key: {"language": [4], "solution": ["class A"]} for key in PROGRAMS}
SETTINGS: dict[type[ProgramData], dict[str, Any]] = {
    HumanEval: {},
    MBPP: {},
    APPS: {
        "difficulties": ["introductory"],
        "max_solutions": None,
        "validation_share": 0.3,
    },
    CodeContests: {
        "max_solutions": None,
        "max_characters": None,
        "validation_share": 0.2,
        "test_share": 0.3,
    },
}
ROWS: dict[type[ProgramData], list[dict[str, Any]]] = {
    HumanEval: [HUMAN, {**HUMAN, "task_id": "HumanEval/1"}],
    MBPP: [mbpp_row(number) for number in (1, 11, 510, 511, 600, 601, 974)],
    APPS: [apps_row(number) for number in range(3)],
    CodeContests: [contest_row(f"problem {number}") for number in range(40)],
}


def write(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    if name.endswith(".parquet"):
        pd.DataFrame(rows).to_parquet(folder / name)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return folder


def make(kind: type[ProgramData], path: Path | None, cache: Path, **changes: Any) -> ProgramData:
    return kind(path=path, cache_dir=cache, **{**SETTINGS[kind], **changes})  # type: ignore[call-arg]


def rows_of(data: ProgramData) -> dict[str, list[dict[str, str]]]:
    return {split: list(rows) for split, rows in data.load().items()}


@pytest.mark.parametrize("kind", ROWS)
def test_plain_zipped_and_parquet_files_are_the_same_data(
    kind: type[ProgramData], tmp_path: Path
) -> None:
    found = []
    for name in ("rows.jsonl", "rows.jsonl.gz", "rows.parquet"):
        folder = write(tmp_path / name, ROWS[kind], name)
        data = make(kind, folder, tmp_path / f"cache-{name}")
        found.append((data.fingerprint(), rows_of(data)))
    assert found[0] == found[1] == found[2]
    other = write(tmp_path / "other", ROWS[kind][:-1])
    assert make(kind, other, tmp_path).fingerprint() != found[0][0]


@pytest.mark.parametrize("kind", ROWS)
def test_rows_are_what_problems_say(kind: type[ProgramData], tmp_path: Path) -> None:
    data = make(kind, write(tmp_path / "rows", ROWS[kind]), tmp_path / "cache")
    splits = rows_of(data)
    assert set(data.test_splits) <= splits.keys()
    for split, rows in splits.items():
        held_out = [row for row in rows if row["problem"]]
        if split == "train":
            assert not held_out
        else:
            assert [Problem.from_json(row["problem"]) for row in held_out] == data.problems(split)
        if split in data.test_splits:
            assert len(held_out) == len(rows)
            assert [row["prompt"] for row in rows] == [p.prompt for p in data.problems(split)]
    with pytest.raises(UsageError, match=f"dataset {data.name} has no split 'none' with problems"):
        data.problems("none")


def test_a_function_to_complete(tmp_path: Path) -> None:
    data = make(HumanEval, write(tmp_path / "rows", [HUMAN]), tmp_path / "cache")
    (problem,) = data.problems("test")
    assert problem.prompt == problem.prefix == HUMAN["prompt"]
    assert problem.solutions == (HUMAN["prompt"] + HUMAN["canonical_solution"],)
    assert problem.tests == FunctionTests(HUMAN["test"] + "\ncheck(add)\n", "add")
    assert "\ndef" in problem.stop
    (row,) = rows_of(data)["test"]
    assert row["answer"] == HUMAN["canonical_solution"]


def test_tests_have_the_helpers_of_the_prompt(tmp_path: Path) -> None:
    """A completion that defines a helper anew does not change what the tests call."""
    helper = "def one():\n    return 1\n\n\n"
    row = HUMAN | {
        "prompt": f"{helper}{HUMAN['prompt']}",
        "test": "def check(candidate):\n    assert candidate(one(), 2) == 3\n",
    }
    data = make(HumanEval, write(tmp_path / "rows", [row]), tmp_path / "cache")
    (problem,) = data.problems("test")
    assert problem.tests == FunctionTests(f"{helper}{row['test']}\ncheck(add)\n", "add")
    fake = f"{problem.prefix}    return 0\n\n\ndef one():\n    raise SystemExit\n"
    assert run_tests(problem.solutions[0], problem.tests).verdict == "passed"
    assert run_tests(fake, problem.tests).verdict == "failed"


def test_a_sentence_with_its_asserts(tmp_path: Path) -> None:
    data = make(MBPP, write(tmp_path / "rows", ROWS[MBPP]), tmp_path / "cache")
    (first, last) = data.problems("test")
    assert (first.id, last.id) == ("MBPP/11", "MBPP/510")
    asserts = "assert add(0) == 11\nassert add(1) == 12\nassert add(2) == 13\n"
    assert first.prompt == f'"""\nAdd 11.\n{asserts}"""\n'
    assert first.tests == FunctionTests(f"one = 1\n{asserts}", None)
    assert first.solutions == ("def add(x):\n  return x + 11\n",)
    assert first.prefix == ""
    ids = {split: [p.id for p in data.problems(split)] for split in ("train", "validation")}
    assert ids == {"train": ["MBPP/601", "MBPP/974"], "validation": ["MBPP/511", "MBPP/600"]}
    assert [p.id for p in data.problems("prompt")] == ["MBPP/1"]


def test_a_task_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "rows", ROWS[MBPP])
    write(tmp_path / "rows", ROWS[MBPP], "copy.jsonl")
    with pytest.raises(UsageError, match=r"line 1: task 1 is there twice: keep one file"):
        make(MBPP, tmp_path / "rows", tmp_path / "cache").load()


def test_problems_with_stdin_and_stdout(tmp_path: Path) -> None:
    write(tmp_path / "rows", [apps_row(0), apps_row(1, difficulty="interview")], "test.jsonl")
    write(tmp_path / "rows", [apps_row(n) for n in range(20)], "train.jsonl")
    data = make(APPS, tmp_path / "rows", tmp_path / "cache", max_solutions=1)
    (problem,) = data.problems("test")
    assert problem.prompt == "QUESTION:\nEcho 0.\n\nUse Standard Input format\nANSWER:\n"
    assert isinstance(problem.tests, InputOutputTests)
    assert problem.tests.cases == (("a\n", "a\n"), ("b\nc", "b c"))
    assert problem.tests.grader is None
    assert [text.removeprefix(problem.prefix) for text in problem.solutions] == [
        "print(0)\n",
        "print(input())\n",
    ]
    rows = rows_of(data)
    assert sorted(row["answer"] for split in ("train", "validation") for row in rows[split]) == (
        sorted(f"print({n})\n" for n in range(20))
    )
    assert 1 <= len(rows["validation"]) < len(rows["train"])
    both = make(APPS, tmp_path / "rows", tmp_path, difficulties=["interview", "introductory"])
    assert len(both.problems("test")) == 2


CALLS = {"fn_name": "f", "inputs": [[1, "a"], [[2], None]], "outputs": [[True], {"1": [2]}]}


@pytest.mark.parametrize(
    ("starter", "call"),
    [("def f(a, b):\n\t", "f"), ("class Solution:\n    def f(self, a, b):\n", "Solution().f")],
)
def test_problems_with_functions_to_call(starter: str, call: str, tmp_path: Path) -> None:
    row = apps_row(7, starter_code=starter, input_output=json.dumps(CALLS))
    (problem,) = make(APPS, write(tmp_path / "rows", [row]), tmp_path / "c").problems("test")
    assert problem.prompt.endswith(f"\n{starter}\nUse Call-Based format\nANSWER:\n")
    assert isinstance(problem.tests, FunctionTests)
    assert problem.tests.entry_point == "f"
    *_, one, two, end = problem.tests.code.split("\n")
    assert one == f"assert _same({call}(1, 'a'), [True])" and not end
    assert two == f"assert _same({call}([2], None), {{'1': [2]}})"


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (True, [True], True),
        ((1, 2), [[1, 2]], True),
        ([(1,), 2], [[1], 2], True),
        ({1: (2,)}, {"1": [2]}, True),
        (1, [1, 2], False),
        ([1], 1, False),
        ("a", "b", False),
    ],
)
def test_what_counts_as_the_expected_value(found: Any, expected: Any, same: bool) -> None:
    """Our own comparison, which APPS' tests contain."""
    from beyond_ce.data.programs.apps import _CALLS

    names: dict[str, Any] = {}
    exec(_CALLS, names)
    assert names["_same"](found, expected) is same


def listed(starter: str, *tests: tuple[str, Any]) -> dict[str, Any]:
    return {
        "name": "apps-1",
        "description": "Do it.",
        "difficulty": "introductory",
        "starter_code": starter,
        "tests": [{"input": text, "output": [value]} for text, value in tests],
        "solutions": [],
    }


@pytest.mark.parametrize(
    ("starter", "tests", "asserts"),
    [
        ("def f(n):", [("1", 2)], ["f(1), [2]"]),
        ("def f(s):", [("12", 1), ("1a", 0)], ["f('12'), [1]", "f('1a'), [0]"]),
        ("def f(s):", [("a\nb", 0)], [r"f('a\nb'), [0]"]),
        ("def f(a, b):", [("[1]\nx", 0), ("[]\n2", 1)], ["f([1], 'x'), [0]", "f([], '2'), [1]"]),
        ("def f(a, b=1):", [("1.5\n'2'", None)], ["f(1.5, '2'), [None]"]),
    ],
)  # fmt: skip
def test_arguments_that_are_lines(
    starter: str, tests: list[Any], asserts: list[str], tmp_path: Path
) -> None:
    folder = write(tmp_path / "rows", [listed(starter, *tests)])
    (problem,) = make(APPS, folder, tmp_path / "cache").problems("test")
    assert isinstance(problem.tests, FunctionTests)
    lines = problem.tests.code.splitlines()[-len(asserts) :]
    assert lines == [f"assert _same({text})" for text in asserts]


def test_problems_without_tests_are_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        apps_row(1, input_output=""),
        apps_row(2, input_output='{"inputs": [], "outputs": []}'),
        listed("def f(a, b):", ("1\n2\n3", 0)),
        listed("def f(a):"),
        apps_row(3, solutions=""),
    ]
    data = make(APPS, write(tmp_path / "rows", rows), tmp_path / "cache")
    assert [problem.id for problem in data.problems("test")] == ["APPS/3"]
    assert "apps, test: 4 of 5 problems have no tests that can be read" in caplog.text


def test_contest_problems(tmp_path: Path) -> None:
    folder = write(tmp_path / "rows", [contest_row("one")], "test-00000.jsonl")
    write(folder, [contest_row("two")], "valid.jsonl")
    write(folder, [contest_row("three")], "data-train.jsonl")
    data = make(CodeContests, folder, tmp_path / "cache")
    (problem,) = data.problems("test")
    assert problem.prompt == '"""\nPrint it, one.\n"""\n# correct\n'
    assert problem.prefix == ""
    assert problem.tests == InputOutputTests(
        cases=(("1\n", "1\n"), ("2\n", "2\n"), ("3\n", "3\n")),
        time_limit_s=1.5,
        memory_mb=244,
        tolerance=1e-5,
        relative=False,
        grader=None,
    )
    assert problem.solutions == ("print(input())\n", "a\nb\n")
    assert problem.wrong_solutions == ("print(0)\n",)
    rows = rows_of(data)
    for split, name in (("train", "three"), ("validation", "two")):
        asked = f'"""\nPrint it, {name}.\n"""\n# '
        assert [(row["prompt"], row["answer"]) for row in rows[split]] == [
            (f"{asked}correct\n", "print(input())\n"),
            (f"{asked}correct\n", "a\nb\n"),
            (f"{asked}incorrect\n", "print(0)\n"),
        ]
    assert len(rows["test"]) == 1
    one = rows_of(make(CodeContests, folder, tmp_path / "cache", max_solutions=1))["train"]
    assert [row["answer"] for row in one] == ["print(input())\n", "print(0)\n"]
    longest = len(one[0]["prompt"]) + 4
    short = make(CodeContests, folder, tmp_path / "cache", max_characters=longest)
    assert [row["answer"] for row in rows_of(short)["train"]] == ["a\nb\n"]
    assert short.problems("test") == data.problems("test")
    write(folder, [contest_row("four", **NO_PROGRAMS)], "valid-01.jsonl")
    with_none = make(CodeContests, folder, tmp_path / "other cache")
    assert len(with_none.problems("validation")) == 2
    # The loss of validation is that of programs, of which the second problem has none.
    assert [row["answer"] for row in rows_of(with_none)["validation"]] == [
        row["answer"] for row in rows["validation"]
    ]


def test_programs_that_spell_their_language(tmp_path: Path) -> None:
    programs = {"language": ["PYTHON3", "PYTHON", "JAVA"], "solution": ["a", "b", "c"]}
    row = contest_row("one", solutions=programs, time_limit=None, memory_limit_bytes=0)
    folder = write(tmp_path / "rows", [row], "test.jsonl")
    (problem,) = make(CodeContests, folder, tmp_path / "cache").problems("test")
    assert problem.solutions == ("a\n",)
    assert isinstance(problem.tests, InputOutputTests)
    assert (problem.tests.time_limit_s, problem.tests.memory_mb) == (10, 1024)


@pytest.mark.parametrize(
    ("changes", "tolerance", "relative", "grader"),
    [
        ({}, 1e-5, False, None),
        ({"input_file": "stdin", "output_file": "stdout"}, 1e-5, False, None),
        ({"input_file": "in.txt"}, None, True, "input_file in.txt"),
        ({"output_file": "out.txt"}, None, True, "output_file out.txt"),
        ({"validator_flags": ""}, None, True, None),
        ({"validator_flags": "float_tolerance 1e-6"}, 1e-6, True, None),
        ({"validator_flags": "float_relative_tolerance 1e-6"}, 1e-6, True, None),
        ({"validator_flags": "float_absolute_tolerance 5e-4"}, 5e-4, False, None),
        ({"validator_flags": "case_sensitive"}, None, True, "validator case_sensitive"),
        ({"validator_flags": "a 1"}, None, True, "validator a 1"),
        ({key: {"input": [], "output": []} for key in TESTS}, 1e-5, False, "no tests"),
    ],
)  # fmt: skip
def test_how_outputs_are_compared(
    changes: dict[str, Any],
    tolerance: float | None,
    relative: bool,
    grader: str | None,
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "rows", [contest_row("one", **changes)], "test.jsonl")
    (problem,) = make(CodeContests, folder, tmp_path / "cache").problems("test")
    assert isinstance(problem.tests, InputOutputTests)
    assert (problem.tests.tolerance, problem.tests.grader) == (tolerance, grader)
    assert problem.tests.relative is relative


def test_problems_without_a_split_are_divided_by_name(tmp_path: Path) -> None:
    rows = [contest_row(f"problem {i}") for i in range(200)]
    data = make(CodeContests, write(tmp_path / "one", rows), tmp_path / "cache")
    ids = {split: {p.id for p in data.problems(split)} for split in ("train", "validation", "test")}
    assert set.union(*ids.values()) == {row["name"] for row in rows}
    assert sum(map(len, ids.values())) == 200
    assert 40 < len(ids["test"]) < 80 and 20 < len(ids["validation"]) < 60
    fewer = make(CodeContests, write(tmp_path / "two", rows[::-1][:150]), tmp_path / "cache")
    assert {p.id for p in fewer.problems("test")} <= ids["test"]


def test_shares_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"leave nothing to train on: lower them"):
        make(CodeContests, None, tmp_path, validation_share=0.5, test_share=0.5)


MISSING = {
    HumanEval: ("task_id", "prompt", "entry_point", "canonical_solution", "test"),
    MBPP: ("task_id", "text", "code", "test_list", "test_setup_code"),
    APPS: ("question", "solutions", "input_output", "difficulty", "starter_code", "problem_id"),
    CodeContests: (
        *("name", "description", "public_tests", "private_tests", "generated_tests"),
        *("solutions", "incorrect_solutions"),
    ),
}


@pytest.mark.parametrize(
    ("kind", "column"), [(kind, column) for kind, columns in MISSING.items() for column in columns]
)
@pytest.mark.parametrize("value", ["missing", None, 7, {"a": 1}, [1]])
def test_a_column_that_is_missing_or_of_another_type_is_one_line(
    kind: type[ProgramData], column: str, value: Any, tmp_path: Path
) -> None:
    row = dict(ROWS[kind][1])
    del row[column]
    if value != "missing":
        row[column] = value
    if value == 7 and (kind, column) in ((MBPP, "task_id"), (APPS, "problem_id")):
        return
    folder = write(tmp_path / "rows", [*ROWS[kind][2:], row])
    with pytest.raises(UsageError, match=r"rows\.jsonl, line \d+") as error:
        for _, problems in make(kind, folder, tmp_path / "cache")._problems():
            list(problems)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    "changes",
    [
        {"public_tests": {"input": ["1"], "output": []}},
        {"public_tests": {"input": [1], "output": ["1"]}},
        {"solutions": {"language": [3], "solution": []}},
        {"solutions": {"language": 3, "solution": ["a"]}},
        {"time_limit": "long"},
        {"time_limit": {"seconds": -1}},
        {"time_limit": []},
        {"memory_limit_bytes": 1e400},
        {"memory_limit_bytes": "much"},
        {"validator_flags": "float_tolerance much"},
    ],
)
def test_wrong_values_of_a_contest_are_one_line(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = write(tmp_path / "rows", [contest_row("one", **changes)], "test.jsonl")
    with pytest.raises(UsageError, match=r"test\.jsonl, line 1") as error:
        make(CodeContests, folder, tmp_path / "cache").problems("test")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"input_output": "{"},
        {"input_output": "[1]"},
        {"input_output": '{"inputs": 1, "outputs": []}'},
        {"input_output": '{"inputs": [1], "outputs": [1], "fn_name": "f"}'},
        {"solutions": "{"},
        {"solutions": "[1]"},
    ],
)
def test_wrong_values_of_apps_are_one_line(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = write(tmp_path / "rows", [apps_row(1, **changes)], "test.jsonl")
    with pytest.raises(UsageError, match=r"test\.jsonl, line 1") as error:
        make(APPS, folder, tmp_path / "cache").problems("test")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ROWS)
def test_a_folder_without_rows_is_refused(kind: type[ProgramData], tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    with pytest.raises(UsageError, match=r"has no file of rows \(\.jsonl"):
        make(kind, tmp_path / "rows", tmp_path)
    (tmp_path / "rows" / "rows.jsonl").write_text("")
    with pytest.raises(RunError, match=r"rows\.jsonl is empty: fetch it again"):
        make(kind, tmp_path / "rows", tmp_path / "cache").load()


def test_a_test_split_without_problems_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "rows", [mbpp_row(601)])
    with pytest.raises(UsageError, match=r"dataset mbpp has no problem in the split 'test'"):
        make(MBPP, folder, tmp_path / "cache").load()


HUB = {
    "humaneval": ("openai/openai_humaneval", None, HumanEval),
    "mbpp": ("google-research-datasets/mbpp", "full", MBPP),
    "code_contests": ("deepmind/code_contests", None, CodeContests),
}


@pytest.mark.parametrize("name", HUB)
def test_the_hub_is_the_default(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, configuration, kind = HUB[name]
    asked = Counter[str]()

    def rows(*where: Any, stream: bool) -> Iterator[dict[str, Any]]:
        assert where[:2] == (hub, configuration) and not stream
        asked[where[2]] += 1
        parts = {"train": ROWS[kind][-2:], "test": ROWS[kind][:2]}
        yield from parts.get(where[2], ROWS[kind][3:5])

    monkeypatch.delenv("BEYOND_CE_DATA", raising=False)
    monkeypatch.setattr(files, "hub_rows", rows)
    if kind is MBPP:
        monkeypatch.setattr(
            files, "hub_rows", lambda *where, stream: {"test": ROWS[MBPP]}.get(where[2], [])
        )
    data = build(compose([f"dataset={name}", f"cache_dir={tmp_path}"]).dataset, "dataset")
    splits = data.load()
    assert len(splits["test"]) == 2
    assert data.hub_name == hub
    if kind is CodeContests:
        assert asked == {"train": 1, "valid": 1, "test": 1}


def test_apps_is_read_from_its_files_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(kind: str, data_files: str, split: str) -> list[dict[str, Any]]:
        assert (kind, split) == ("json", "train")
        assert data_files.startswith("hf://datasets/codeparrot/apps/")
        return ROWS[APPS]

    monkeypatch.delenv("BEYOND_CE_DATA", raising=False)
    monkeypatch.setattr("datasets.load_dataset", load)
    data = build(compose(["dataset=apps", f"cache_dir={tmp_path}"]).dataset, "dataset")
    assert len(data.load()["test"]) == 3

    def fail(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr("datasets.load_dataset", fail)
    with pytest.raises(RunError, match=r"cannot load codeparrot/apps from the hub \(no route\)"):
        data.problems("test")


real = pytest.mark.skipif("BEYOND_CE_DATA" not in os.environ, reason="needs BEYOND_CE_DATA")


@real
def test_the_real_humaneval(tmp_path: Path) -> None:
    problems = make(HumanEval, None, tmp_path).problems("test")
    assert len(problems) == len({p.id for p in problems}) == 164
    for problem in problems:
        ast.parse(problem.solutions[0] + problem.tests.code)  # type: ignore[union-attr]


@real
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_the_real_mbpp(tmp_path: Path) -> None:
    data = make(MBPP, None, tmp_path)
    sizes = {"test": 500, "validation": 90, "train": 374, "prompt": 10}
    for split, size in sizes.items():
        problems = data.problems(split)
        assert len(problems) == size
        for problem in problems:
            assert isinstance(problem.tests, FunctionTests)
            assert problem.tests.code.count("assert ") >= 3
            ast.parse(problem.solutions[0] + problem.tests.code)


@real
def test_the_real_apps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    levels = ["introductory", "interview", "competition"]
    data = make(APPS, None, tmp_path, difficulties=levels)
    tests = data.problems("test")
    assert Counter(type(p.tests) for p in tests) == {FunctionTests: 96, InputOutputTests: 52}
    assert "2 of 150 problems have no tests that can be read" in caplog.text
    for problem in tests:
        if isinstance(problem.tests, FunctionTests):
            ast.parse(problem.tests.code)
    known = [p for split in ("train", "validation") for p in data.problems(split)]
    assert sum(len(p.solutions) for p in known) == 101
    assert len(make(APPS, None, tmp_path).problems("test")) == 50


@real
def test_the_real_contest_problems(tmp_path: Path) -> None:
    folder = Path(os.environ["BEYOND_CE_DATA"]) / "kattis"
    overrides = ["dataset=code_contests", f"dataset.path={folder}", f"cache_dir={tmp_path}"]
    data = build(compose(overrides).dataset, "dataset")
    problems = [p for split in ("train", "validation", "test") for p in data.problems(split)]
    assert len({p.id for p in problems}) == len(problems) == 158
    assert sum(len(p.solutions) for p in problems) == 177
    assert sum(len(p.wrong_solutions) for p in problems) == 36
    tests = [p.tests for p in problems]
    assert sum(len(t.cases) for t in tests) == 3278
    assert all(t.grader is None for t in tests)
    assert sum(t.tolerance is not None for t in tests) == 10
    assert {split: len(rows) > 10 for split, rows in data.load().items()} == dict.fromkeys(
        ("train", "validation", "test"), True
    )
