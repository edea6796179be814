from __future__ import annotations

import itertools
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from beyond_ce.data import Expressions
from beyond_ce.errors import UsageError

SMALL: dict[str, Any] = {
    **{"expression": "a * b", "digits": 2, "seed": 0},
    **{"train_size": 30, "validation_size": 5, "test_size": 6},
}
Rows = dict[str, list[dict[str, str]]]


def load(cache_dir: Path | str, **options: Any) -> Rows:
    data = Expressions(**{**SMALL, **options}, cache_dir=cache_dir)
    return {split: list(rows) for split, rows in data.load().items()}


def operands(row: dict[str, str]) -> tuple[int, ...]:
    return tuple(sorted(map(int, re.findall(r"\d+", row["prompt"]))))


@settings(max_examples=40, deadline=None)
@given(
    expression=st.sampled_from(
        ["a * b", "a+b", "x - y", "a * b + c", "a - (b - c)", "c * (a + b)"]
    ),
    digits=st.integers(1, 6),
    sizes=st.tuples(*[st.integers(1, 80)] * 3),
    seed=st.integers(0, 2**40),
)
def test_splits(expression: str, digits: int, sizes: tuple[int, ...], seed: int) -> None:
    options = dict(zip(["train_size", "validation_size", "test_size"], sizes, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        splits = load(folder, expression=expression, digits=digits, seed=seed, **options)
    assert set(splits) == {"train", "validation", "test"}
    asked = [operands(row) for rows in splits.values() for row in rows]
    assert len(set(asked)) == len(asked)
    assert all(len(str(value)) == digits for row in asked for value in row)
    letters = len(re.findall("[a-z]", expression))
    combinations = math.comb(9 * 10 ** (digits - 1) + letters - 1, letters)
    there = min(sum(sizes), combinations)
    found = {split: len(rows) for split, rows in splits.items()}
    assert found["test"] == min(sizes[2], there // 10)
    assert found["validation"] == min(sizes[1], there // 10)
    assert found["train"] == min(sizes[0], there - found["test"] - found["validation"])
    shape = re.sub("[a-z]", "{}", expression)
    for row in itertools.chain(*splits.values()):
        numbers = re.findall(r"\d+", row["prompt"])
        assert row["prompt"] == f"What is {shape.format(*numbers)}?"
        assert sympy.sympify(row["prompt"][8:-1]) == sympy.Integer(row["answer"])
        assert row["task"] == expression


def test_every_combination_is_asked_once_if_all_are_wanted(tmp_path: Path) -> None:
    many = {"train_size": 1000, "validation_size": 1000, "test_size": 1000}
    splits = load(tmp_path, digits=1, **many)
    assert {split: len(rows) for split, rows in splits.items()} == {
        **{"test": 4, "validation": 4, "train": 37},
    }
    asked = {operands(row) for rows in splits.values() for row in rows}
    assert asked == set(itertools.combinations_with_replacement(range(1, 10), 2))


def test_operands_are_uniform(tmp_path: Path) -> None:
    rows = load(tmp_path, digits=4, train_size=20000)["train"]
    for position in (0, 1):
        drawn = [int(re.findall(r"\d+", row["prompt"])[position]) for row in rows]
        assert sum(drawn) / len(drawn) == pytest.approx(5499.5, rel=0.01)
        assert min(drawn) < 1010 and max(drawn) > 9990


def test_the_seed_counts_and_the_same_seed_gives_the_same(tmp_path: Path) -> None:
    one, again, other = (load(tmp_path / str(i), seed=seed) for i, seed in enumerate([0, 0, 1]))
    assert one == again != other


def test_the_fingerprint_depends_on_every_setting_but_the_place() -> None:
    def fingerprint(**options: Any) -> str:
        return Expressions(**{**SMALL, "cache_dir": "here"} | options).fingerprint()

    changes = [
        {"expression": "a + b"},
        *({key: 7} for key in ("digits", "train_size", "validation_size", "test_size", "seed")),
    ]
    for change in changes:
        change = {key: 5 if key == "digits" else value for key, value in change.items()}
        assert fingerprint(**change) != fingerprint()
    assert fingerprint(cache_dir="there") == fingerprint()


@pytest.mark.parametrize(
    "expression",
    [
        *("a", "a / b", "a ** b", "a * a", "a + b + c + d", "f(a, b)", "ab + c", "a + 1", "-a + b"),
        *("a.b", "a +", "A + b", "a if b else c", "(" * 500, "a\n+ b", "a; b"),
    ],
)
def test_another_expression_is_refused(expression: str) -> None:
    with pytest.raises(UsageError, match="dataset.expression="):
        Expressions(**SMALL | {"expression": expression}, cache_dir="here")
