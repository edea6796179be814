"""Generated functions and contest problems."""

from __future__ import annotations

import ast
import hashlib
import io
import itertools
import re
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.configuration import build, compose
from beyond_ce.data import CodeTasks, ContestTasks, PackedPrograms, Problem, ProgramData
from beyond_ce.data.programs.compositions import HELD_OUT, INPUTS, Programs, evaluate
from beyond_ce.data.programs.operations import function_of, vocabulary, within_limits
from beyond_ce.data.programs.problem import FunctionTests, InputOutputTests
from beyond_ce.errors import UsageError

TASKS: dict[str, Any] = {
    **{"train_size": 300, "validation_size": 20, "test_size": 40},
    **{"longest": 3, "shown_asserts": 0, "seed": 0},
}
CONTESTS: dict[str, Any] = {
    **{"train_size": 150, "validation_size": 20, "test_size": 40},
    **{"solutions": 3, "incorrect_solutions": 3, "longest": 3, "seed": 0},
}
VALUES = {
    "number": st.integers(-20, 20),
    "list": st.lists(st.integers(-20, 20), max_size=8),
    "text": st.text("abcdeiouXYZ ", max_size=12),
}
SPLITS = ("test", "validation", "train")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> CodeTasks:
    return CodeTasks(**TASKS, cache_dir=tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def contests(tmp_path_factory: pytest.TempPathFactory) -> ContestTasks:
    return ContestTasks(**CONTESTS, cache_dir=tmp_path_factory.mktemp("contests"))


@pytest.fixture(scope="module")
def programs(tasks: CodeTasks) -> Programs:
    return tasks.programs


def all_programs(programs: Programs) -> list[Any]:
    return [program for level in programs.of_length.values() for program in level]


def run(program: str, stdin: str) -> str:
    """What a program of our own generator prints."""
    out, lines = io.StringIO(), iter(stdin.splitlines())
    with redirect_stdout(out), mock.patch("builtins.input", lambda: next(lines)):
        exec(program, {})
    return out.getvalue()


def passes(program: str, problem: Problem) -> bool:
    """Whether a program of our own generator passes; words are compared, whatever their case."""
    if isinstance(problem.tests, InputOutputTests):
        return all(
            run(program, stdin).lower().split() == stdout.lower().split()
            for stdin, stdout in problem.tests.cases
        )
    try:
        exec(program + problem.tests.code, {})
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("operation", vocabulary(), ids=lambda o: f"{o.family}-{o.phrases[0]}")
def test_spellings_agree_and_mistakes_show(operation: Any) -> None:
    first, *others = operation.spellings
    expected = [function_of(first)(value) for value in INPUTS[operation.takes]]
    kind = {"number": int, "list": list, "text": str}[operation.gives]
    assert all(type(value) is kind for value in expected)
    for other in others:
        assert [function_of(other)(value) for value in INPUTS[operation.takes]] == expected
    assert operation.mistakes
    for mistake in operation.mistakes:
        assert [function_of(mistake)(value) for value in INPUTS[operation.takes]] != expected


@given(st.data())
def test_spellings_agree_for_any_value(data: st.DataObject) -> None:
    operation = data.draw(st.sampled_from(vocabulary()))
    value = data.draw(VALUES[operation.takes])
    results = [function_of(spelling)(value) for spelling in operation.spellings]
    assert all(result == results[0] for result in results)
    for mistake in operation.mistakes:
        function_of(mistake)(value)  # never fails


def test_words_say_which_operation() -> None:
    """In no two phrases is the same said, so that the docstring decides the program."""
    phrases = [phrase for operation in vocabulary() for phrase in set(operation.phrases)]
    assert len(set(phrases)) == len(phrases)
    assert all(re.fullmatch(r"[a-zA-Z0-9_\- ]+", phrase) for phrase in phrases)


def test_there_are_thousands_of_programs_that_differ(programs: Programs) -> None:
    known = all_programs(programs)
    signatures = {(p.takes, repr(p.values)) for p in known}
    assert len(signatures) == len(known) > 10_000
    assert all(len(p.steps) <= 3 for p in known)
    for program in known:
        assert all(within_limits(value) for value in program.values)
        assert len(set(map(repr, program.values))) > 1
        assert program.values != INPUTS[program.takes]


def test_values_are_those_of_the_steps(programs: Programs) -> None:
    for program in all_programs(programs)[::7]:
        for one, other in itertools.pairwise(program.steps):
            assert one.gives == other.takes
        spelling = [step.spellings[-1] for step in program.steps]
        assert program.values == tuple(evaluate(spelling, value) for value in INPUTS[program.takes])


@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_pairs_are_never_trained_on(seed: int) -> None:
    programs = Programs(3, seed, repr)
    found = {
        split: {
            pair
            for length in programs.of_length
            for program in programs.split(split, length)
            for pair in itertools.pairwise(program.families)
        }
        for split in SPLITS
    }
    trained = found["train"]
    pairs = {p.families for p in programs.of_length[2]}
    for split, share in HELD_OUT.items():
        own = found[split] - trained
        assert 0.8 * share < len(own & pairs) / len(pairs) < 1.5 * share
        for length in (2, 3):
            for program in programs.split(split, length):
                assert set(itertools.pairwise(program.families)) - trained
    known = {
        step for n in programs.of_length for p in programs.split("train", n) for step in p.steps
    }
    for split, length in itertools.product(HELD_OUT, (2, 3)):
        assert all(set(program.steps) <= known for program in programs.split(split, length))


@pytest.mark.parametrize("name", ["tasks", "contests"])
def test_every_solution_passes_its_tests(name: str, request: pytest.FixtureRequest) -> None:
    data: ProgramData = request.getfixturevalue(name)
    for split in SPLITS:
        for problem in data.problems(split):
            assert problem.solutions
            for solution in problem.solutions:
                ast.parse(solution)
                assert passes(solution, problem), solution


def test_every_wrong_program_fails_a_test(contests: ContestTasks) -> None:
    problems = [p for split in SPLITS for p in contests.problems(split)]
    longer = [len(p.wrong_solutions) for p in problems if p.id[0] != "1"]
    assert longer.count(3) > 0.9 * len(longer)
    assert all(p.wrong_solutions for p in problems)
    for problem in problems:
        assert not set(problem.solutions) & set(problem.wrong_solutions)
        for wrong in problem.wrong_solutions:
            assert not passes(wrong, problem), wrong


@pytest.mark.parametrize("body", ["    pass\n", "    return x\n", "    return 0\n"])
def test_no_trivial_body_passes(body: str, tasks: CodeTasks) -> None:
    for problem in tasks.problems("test"):
        assert not passes(problem.prefix + body, problem)


def test_no_other_task_of_the_same_kind_is_solved(tasks: CodeTasks) -> None:
    """Asserts tell programs apart."""
    problems = tasks.problems("test")
    for one, other in zip(problems, problems[1:] + problems[:1], strict=True):
        assert isinstance(one.tests, FunctionTests) and isinstance(other.tests, FunctionTests)
        name = r"\b(f|g|h|fn|run)\("
        mine, theirs = (re.sub(name, "f(", p.tests.code) for p in (one, other))  # type: ignore[union-attr]
        assert mine != theirs


def test_a_task_looks_like_this(tasks: CodeTasks) -> None:
    for split in SPLITS:
        for problem in tasks.problems(split):
            assert re.fullmatch(r'def (f|g|h|fn|run)\(x\):\n    """[^"\n]+\."""\n', problem.prompt)
            assert problem.prefix == problem.prompt
            (solution,) = problem.solutions
            body = solution.removeprefix(problem.prompt)
            assert re.fullmatch(r"(    x = .+\n)*    return .+\n", body)
            steps = int(problem.id[0])
            assert body.count("\n") == steps
            assert problem.tests.code.count("assert ") == len(problem.tests.code.splitlines())  # type: ignore[union-attr]
            assert not any(text in body for text in problem.stop)


def test_a_contest_looks_like_this(contests: ContestTasks) -> None:
    for problem in contests.problems("train"):
        assert re.fullmatch(
            r'"""\nRead (numbers|a number|a text)\. [^"\n]+\.\n"""\n# correct\n', problem.prompt
        )
        assert isinstance(problem.tests, InputOutputTests)
        assert problem.tests.grader is None and problem.tests.tolerance is None
        for program in problem.solutions + problem.wrong_solutions:
            assert re.fullmatch(r"x = .+\n(x = .+\n)*print\(.+\)\n", program)
            assert not any(text in program for text in problem.stop)
    rows = contests.load()["train"]
    rewards = Counter(re.search(r"# (\w+)\n$", prompt)[1] for prompt in rows["prompt"])  # type: ignore[index]
    assert set(rewards) == {"correct", "incorrect"}
    assert rewards["incorrect"] > 0.4 * rewards["correct"]


@pytest.mark.parametrize("name", ["tasks", "contests"])
def test_no_test_task_is_in_training(name: str, request: pytest.FixtureRequest) -> None:
    data: ProgramData = request.getfixturevalue(name)
    texts = {split: [p.prompt for p in data.problems(split)] for split in SPLITS}

    def asked(prompt: str) -> str:
        return re.sub(r"^def \w+", "def f", prompt)

    for one, other in itertools.combinations(SPLITS, 2):
        assert not set(map(asked, texts[one])) & set(map(asked, texts[other]))
    behaviours = {split: {_tests(p) for p in data.problems(split)} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not behaviours[one] & behaviours[other]
    assert len(behaviours["test"]) == len(texts["test"])


def _tests(problem: Problem) -> Any:
    if isinstance(problem.tests, InputOutputTests):
        return problem.tests.cases
    return re.sub(r"assert \w+", "assert f", problem.tests.code)


@pytest.mark.parametrize("name", ["tasks", "contests"])
def test_rows(name: str, request: pytest.FixtureRequest) -> None:
    data: ProgramData = request.getfixturevalue(name)
    splits = {split: list(rows) for split, rows in data.load().items()}
    for split, rows in splits.items():
        found = [Problem.from_json(row["problem"]) for row in rows if row["problem"]]
        assert found == ([] if split == "train" else data.problems(split))
        texts = [row["prompt"] + row["answer"] for row in rows]
        assert len(set(texts)) == len(texts)
    assert {row["task"] for row in splits["train"]} == {"1_steps", "2_steps", "3_steps"}
    assert Counter(row["task"] for row in splits["test"]) == {"2_steps": 20, "3_steps": 20}


def test_only_arguments_decide(tmp_path: Path) -> None:
    for kind, settings in ((CodeTasks, TASKS), (ContestTasks, CONTESTS)):
        small = {**settings, "train_size": 30, "longest": 2}
        one = kind(**small, cache_dir=tmp_path / "one")
        two = kind(**small, cache_dir=tmp_path / "two")
        assert one.fingerprint() == two.fingerprint()
        assert {s: list(r) for s, r in one.load().items()} == {
            s: list(r) for s, r in two.load().items()
        }
        other = kind(**{**small, "seed": 1}, cache_dir=tmp_path)
        assert other.problems("test") != one.problems("test")
        changes = [{}, *({key: value + 1} for key, value in small.items())]
        prints = {kind(**{**small, **c}, cache_dir=tmp_path).fingerprint() for c in changes}
        assert len(prints) == len(changes)


def test_the_examples_are_the_same_for_ever(tasks: CodeTasks, contests: ContestTasks) -> None:
    """If this fails, raise `version`: committed reports are of other examples."""

    def digest(data: ProgramData) -> str:
        texts = [row["prompt"] + row["answer"] for rows in data.load().values() for row in rows]
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]

    assert digest(tasks) == "666098ba9701b1a3"
    assert digest(contests) == "95ac5a8225ee1eee"


@pytest.mark.parametrize("shown", [1, 3])
def test_asserts_in_the_docstring(shown: int, tmp_path: Path) -> None:
    settings = {**TASKS, "shown_asserts": shown, "longest": 2, "train_size": 20}
    for problem in CodeTasks(**settings, cache_dir=tmp_path).problems("test"):
        lines = [line.strip() for line in problem.prompt.splitlines() if "assert" in line]
        assert len(lines) == shown
        assert set(lines) <= set(problem.tests.code.splitlines())  # type: ignore[union-attr]
        assert passes(problem.solutions[0], problem)


def test_more_tasks_than_there_are_is_refused(tmp_path: Path) -> None:
    data = CodeTasks(**{**TASKS, "longest": 2, "test_size": 5000}, cache_dir=tmp_path)
    with pytest.raises(UsageError, match=r"dataset\.test_size=5000: there are about \d{3} such"):
        data.load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"longest": 1}, "dataset.longest=1: give at least 2"),
        ({"longest": 6}, "dataset.longest=6: give at most 5"),
        ({"shown_asserts": 4}, "dataset.shown_asserts=4: give at most 3"),
        ({"train_size": 0}, "dataset.train_size=0: give at least 1"),
        ({"test_size": 1.5}, "dataset.test_size=1.5: give a whole number"),
        ({"seed": -1}, "dataset.seed=-1: give at least 0"),
    ],
)
def test_impossible_settings_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        CodeTasks(**{**TASKS, **options}, cache_dir=tmp_path)


def test_contests_without_wrong_programs(tmp_path: Path) -> None:
    settings = {**CONTESTS, "incorrect_solutions": 0, "longest": 2, "train_size": 20}
    rows = ContestTasks(**settings, cache_dir=tmp_path).load()["train"]
    assert not any("incorrect" in prompt for prompt in rows["prompt"])


def test_programs_as_documents(tasks: CodeTasks, tmp_path: Path) -> None:
    packed = PackedPrograms(data=tasks, sequence_length=64, cache_dir=tmp_path)
    plain, documents = tasks.load(), packed.load()
    assert packed.test_splits == tasks.test_splits
    assert packed.problems("test") == tasks.problems("test")
    assert packed.fingerprint() != tasks.fingerprint()
    for split in SPLITS:
        assert list(documents[split]) == [
            {"text": r["prompt"] + r["answer"], "task": r["task"], "problem": r["problem"]}
            for r in plain[split]
        ]


def test_shuffled_documents_are_the_same_in_another_order(tmp_path: Path) -> None:
    contests = ContestTasks(**CONTESTS, cache_dir=tmp_path)
    in_order, shuffled = (
        PackedPrograms(data=contests, sequence_length=64, cache_dir=tmp_path, shuffled=each)
        for each in (False, True)
    )
    assert in_order.fingerprint() != shuffled.fingerprint()
    plain, mixed = in_order.load(), shuffled.load()
    for split in ("train", "validation"):
        assert sorted(map(str, plain[split])) == sorted(map(str, mixed[split]))
        assert list(plain[split]) != list(mixed[split])
    assert list(plain["test"]) == list(mixed["test"])
    # In order, most documents follow one of the same problem.
    same = []
    for rows in (plain["train"], mixed["train"]):
        asked = [text.partition("\n# ")[0] for text in rows["text"]]
        same.append(sum(one == other for one, other in itertools.pairwise(asked)) / len(asked))
    assert same[0] > 0.5 > 0.2 > same[1]


@pytest.mark.parametrize("name", ["code_tasks", "contest_tasks", "code_contests"])
def test_packed_choices_hold_the_others_settings(name: str, tmp_path: Path) -> None:
    plain = build(compose([f"dataset={name}", f"cache_dir={tmp_path}"]).dataset, "dataset")
    config = compose([f"dataset={name}_packed", f"cache_dir={tmp_path}"]).dataset
    packed = build(config, "dataset")
    assert packed.data.fingerprint() == plain.fingerprint()
    assert packed.name == f"{name}_packed"
    assert packed.hub_name == plain.hub_name


@pytest.mark.parametrize("kind", [CodeTasks, ContestTasks])
def test_with_one_constant_there_is_no_number_to_copy(kind: Any, tmp_path: Path) -> None:
    settings = {CodeTasks: TASKS, ContestTasks: CONTESTS}[kind]
    some, one, all_five = (
        kind(**settings, cache_dir=tmp_path, **constants)
        for constants in ({}, {"constants": 1}, {"constants": 5})
    )
    assert all_five.fingerprint() == some.fingerprint() != one.fingerprint()
    numbers = {
        name: {
            number
            for problem in data.problems("test")
            for number in re.findall(r"\d+", problem.prompt.split('"""')[1])
        }
        for name, data in (("one", one), ("some", some))
    }
    # Those of "drop below 1" are no constants: they are always the same.
    assert numbers["one"] <= {"0", "1", "2"} < numbers["some"]


def test_blank_lines_come_before_the_first_step_in_training_alone(
    tasks: CodeTasks, tmp_path: Path
) -> None:
    spaced = CodeTasks(**TASKS, blank_lines=0.4, cache_dir=tmp_path)
    assert spaced.fingerprint() != tasks.fingerprint()
    blank = re.compile('"""\n( {4})?\n    ')
    for split in SPLITS:
        plain, with_blanks = (
            [problem.solutions[0] for problem in data.problems(split)] for data in (tasks, spaced)
        )
        found = [solution for solution in with_blanks if blank.search(solution)]
        assert [blank.sub('"""\n    ', solution) for solution in with_blanks] == plain
        if split == "train":
            assert 90 < len(found) < 150  # 120 of 300 expected
            assert 0.3 < sum('"""\n    \n' in solution for solution in found) / len(found) < 0.7
        else:
            assert not found
