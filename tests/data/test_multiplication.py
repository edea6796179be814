from __future__ import annotations

import collections
import hashlib
import itertools
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyond_ce.configuration import build, compose
from beyond_ce.data import Multiplication, multiplication
from beyond_ce.errors import UsageError

SMALL: dict[str, Any] = {
    **{"train_per_cell": 12, "validation_per_cell": 3, "test_per_cell": 4, "seed": 0},
    **{"train_digits": [1, 2], "test_digits": [1, 3]},
}
Rows = dict[str, list[dict[str, str]]]


def load(cache_dir: Path | str, **options: Any) -> Rows:
    data = Multiplication(**{**SMALL, **options}, cache_dir=cache_dir)
    return {split: list(rows) for split, rows in data.load().items()}


def factors(row: dict[str, str]) -> tuple[int, int]:
    first, second = re.fullmatch(r"What is (\d+) \* (\d+)\?", row["prompt"]).groups()
    return int(first), int(second)


def products(rows: list[dict[str, str]]) -> set[tuple[int, ...]]:
    return {tuple(sorted(factors(row))) for row in rows}


def assert_disjoint(splits: Rows) -> None:
    for one, other in itertools.combinations(splits, 2):
        assert not products(splits[one]) & products(splits[other]), (one, other)


ranges = st.tuples(st.integers(1, 4), st.integers(1, 4)).map(sorted)
sizes = st.integers(1, 120)


@settings(max_examples=40, deadline=None)
@given(train=ranges, test=ranges, sizes=st.tuples(sizes, sizes, sizes), seed=st.integers(0, 2**40))
def test_splits(train: list[int], test: list[int], sizes: tuple[int, int, int], seed: int) -> None:
    names = ("train", "validation", "test")
    options = {f"{name}_per_cell": size for name, size in zip(names, sizes, strict=True)}
    with tempfile.TemporaryDirectory() as folder:
        splits = load(folder, **options, train_digits=train, test_digits=test, seed=seed)
    assert_disjoint(splits)
    trained, tested = (
        set(itertools.product(range(least, most + 1), repeat=2)) for least, most in (train, test)
    )
    cells = {"train": trained, "validation": trained}
    cells |= {"interpolate": trained & tested, "extrapolate": tested - trained}
    assert set(splits) == {split for split, own in cells.items() if own}
    for split, rows in splits.items():
        assert len({row["prompt"] for row in rows}) == len(rows)
        found = collections.Counter()
        for row in rows:
            a, b = factors(row)
            assert row["answer"] == str(a * b)
            assert a > 0 and b > 0
            assert row["task"] == f"{len(str(a))}x{len(str(b))}"
            found[len(str(a)), len(str(b))] += 1
        assert set(found) == cells[split]
        wanted = options["test_per_cell" if "polate" in split else f"{split}_per_cell"]
        for (k, m), count in found.items():
            assert found[m, k] == count <= wanted
            # Enough products of these lengths for all parts, whichever they are.
            if 9**2 * 10 ** (k + m - 2) >= 4 * 10 * max(sizes):
                assert count == wanted


def test_the_45_products_of_digits_are_shared_out(tmp_path: Path) -> None:
    many = {f"{part}_per_cell": 1000 for part in ("train", "validation", "test")}
    splits = load(tmp_path, **many, train_digits=[1, 1], test_digits=[1, 1])
    assert_disjoint(splits)
    found = {split: len(products(rows)) for split, rows in splits.items()}
    assert found == {"interpolate": 4, "validation": 4, "train": 37}
    # All in both orders: every question there is, once.
    questions = [factors(row) for rows in splits.values() for row in rows]
    assert sorted(questions) == list(itertools.product(range(1, 10), repeat=2))


def test_the_products_of_unequal_lengths_are_shared_out(tmp_path: Path) -> None:
    many = {f"{part}_per_cell": 1000 for part in ("train", "validation", "test")}
    splits = load(tmp_path, **many, train_digits=[1, 2], test_digits=[1, 2])
    assert_disjoint(splits)
    for split, count in {"interpolate": 81, "validation": 81, "train": 648}.items():
        for task in ("1x2", "2x1"):
            assert sum(row["task"] == task for row in splits[split]) == count
    mixed = [row for rows in splits.values() for row in rows if row["task"] in ("1x2", "2x1")]
    assert len(products(mixed)) == 9 * 90
    assert len(mixed) == 2 * 9 * 90


def test_lengths_never_trained_may_be_used_up(tmp_path: Path) -> None:
    splits = load(tmp_path, test_per_cell=99, train_digits=[2, 2], test_digits=[1, 1])
    assert set(splits) == {"extrapolate", "validation", "train"}
    assert len(splits["extrapolate"]) == 81


def test_the_two_orders_of_a_cell_share_no_product_where_there_are_enough(tmp_path: Path) -> None:
    rows = load(tmp_path, train_per_cell=200, train_digits=[2, 3])["train"]
    cells = [[row for row in rows if row["task"] == task] for task in ("2x3", "3x2")]
    assert not products(cells[0]) & products(cells[1])
    # Nor is the larger of two equally long factors always first.
    larger_first = np.mean([a > b for a, b in map(factors, rows) if len(str(a)) == len(str(b))])
    assert 0.4 < larger_first < 0.6


@given(row=st.integers(0, 9 * 10**6 - 1), data=st.data())
def test_every_number_of_a_product_of_seven_digits_is_read_exactly(row: int, data: Any) -> None:
    column = data.draw(st.sampled_from([0, row]) | st.integers(0, row))
    number = np.array([row * (row + 1) // 2 + column])
    first, second = multiplication._factors(7, 7, number)
    assert (int(first[0]), int(second[0])) == (10**6 + row, 10**6 + column)


def test_only_arguments_decide(tmp_path: Path) -> None:
    splits = load(tmp_path / "one")
    assert load(tmp_path / "two") == splits
    assert load(tmp_path / "one", seed=1)["train"] != splits["train"]
    fingerprints = {
        Multiplication(**{**SMALL, **other}, cache_dir=tmp_path).fingerprint()
        for other in ({}, {"seed": 1}, {"train_per_cell": 13}, {"test_digits": [1, 2]})
    }
    assert len(fingerprints) == 4


def test_the_examples_are_the_same_for_ever(tmp_path: Path) -> None:
    """If this fails, raise `version`: committed reports are of other examples."""
    splits = load(tmp_path)
    text = "\n".join(row["prompt"] for rows in splits.values() for row in rows)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "1de133b63da9fc23"
    fingerprint = Multiplication(**SMALL, cache_dir=tmp_path).fingerprint()
    assert fingerprint[:16] == "3a08f565068e3413"


@pytest.mark.parametrize("digits", [[0, 2], [2, 1], [1, 8], [1], [1, 2, 3], [1, 2.0], 3, None])
@pytest.mark.parametrize("key", ["train_digits", "test_digits"])
def test_impossible_lengths_are_refused(tmp_path: Path, key: str, digits: Any) -> None:
    with pytest.raises(UsageError, match=f"dataset.{key}=.*from 1 to 7, as") as error:
        load(tmp_path, **{key: digits})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_impossible_sizes_are_refused(tmp_path: Path, part: str, size: Any) -> None:
    advice = "at least 1" if type(size) is int else "a whole number"
    with pytest.raises(UsageError, match=rf"dataset\.{part}_per_cell=\S*: give {advice}"):
        load(tmp_path, **{f"{part}_per_cell": size})


def test_the_configuration_is_as_its_header_says(tmp_path: Path) -> None:
    config = compose(["dataset=multiplication", f"cache_dir={tmp_path}"])
    data = build(config.dataset, "dataset")
    splits = data.load()
    assert data.test_splits == ("interpolate", "extrapolate")
    assert round(len(splits["train"]) / 1000) == 89
    assert set(splits["extrapolate"]["task"]) == {
        *(f"{k}x6" for k in range(1, 7)),
        *(f"6x{m}" for m in range(1, 6)),
    }
