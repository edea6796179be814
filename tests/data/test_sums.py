from __future__ import annotations

import collections
import hashlib
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

from beyond_ce.configuration import build, compose
from beyond_ce.data import Sums
from beyond_ce.errors import UsageError

SMALL: dict[str, Any] = {
    **{"train_per_length": 12, "validation_per_length": 3, "test_per_length": 4, "seed": 0},
    **{"terms": [2, 4], "largest": 9, "brackets": True},
    **{"extrapolate_terms": [5, 5], "extrapolate_largest": None},
}
Rows = dict[str, list[dict[str, str]]]


def load(cache_dir: Path | str, **options: Any) -> Rows:
    data = Sums(**{**SMALL, **options}, cache_dir=cache_dir)
    return {split: list(rows) for split, rows in data.load().items()}


def expression(row: dict[str, str]) -> str:
    """The sum that is asked for; its whole text is checked."""
    term = r"\(*-?(?:0|[1-9]\d*)\)*"
    (text,) = re.fullmatch(rf"What is ({term}(?: [+-] {term})+)\?", row["prompt"]).groups()
    return text


def terms(row: dict[str, str]) -> list[int]:
    """An operator has a space behind it, a sign has none."""
    return [int(number) for number in re.findall(r"-?\d+", expression(row))]


def assert_disjoint(splits: Rows) -> None:
    for rows in splits.values():
        assert len({row["prompt"] for row in rows}) == len(rows)
    for one, other in itertools.combinations(splits.values(), 2):
        assert not {row["prompt"] for row in one} & {row["prompt"] for row in other}


def questions(length: int, values: int, brackets: bool) -> int:
    """How many there are, with Catalan's number of ways to bracket."""
    ways = math.comb(2 * length - 2, length - 1) // length if brackets else 1
    return ways * 2 ** (length - 1) * values**length


lengths = st.tuples(st.integers(2, 5), st.integers(2, 5)).map(sorted)
sizes = st.integers(1, 120)


@settings(max_examples=40, deadline=None)
@given(
    terms_of=lengths,
    longer=st.none() | st.tuples(st.integers(6, 7), st.integers(7, 8)),
    largest=st.integers(1, 500),
    beyond=st.none() | st.integers(1, 500),
    brackets=st.booleans(),
    numbers=st.tuples(sizes, sizes, sizes),
    seed=st.integers(0, 2**40),
)
def test_splits(
    terms_of: list[int],
    longer: tuple[int, int] | None,
    largest: int,
    beyond: int | None,
    brackets: bool,
    numbers: tuple[int, int, int],
    seed: int,
) -> None:
    names = ("train", "validation", "test")
    options = {f"{name}_per_length": size for name, size in zip(names, numbers, strict=True)}
    larger = None if beyond is None else largest + beyond
    with tempfile.TemporaryDirectory() as folder:
        splits = load(
            folder,
            **{**options, "terms": terms_of, "largest": largest, "brackets": brackets},
            **{"extrapolate_terms": longer, "extrapolate_largest": larger, "seed": seed},
        )
    assert_disjoint(splits)
    extrapolates = longer is not None or larger is not None
    assert set(splits) == {"interpolate", "validation", "train"} | (
        {"extrapolate"} if extrapolates else set()
    )
    for split, rows in splits.items():
        beyond_training = split == "extrapolate"
        low, high = (longer or terms_of) if beyond_training else terms_of
        wanted = options["test_per_length" if "polate" in split else f"{split}_per_length"]
        found = collections.Counter(row["task"] for row in rows)
        assert set(found) <= {f"{length}_terms" for length in range(low, high + 1)}
        for length in range(low, high + 1):
            least, most = 0, largest
            if beyond_training and larger is not None:
                least, most = largest + 1, larger
            total = questions(length, 2 * (most - least + 1) - (least == 0), brackets)
            if beyond_training:
                expected = min(wanted, total)
            elif split == "train":
                held = sum(min(options[f"{n}_per_length"], total // 10) for n in names[1:])
                expected = min(wanted, total - held)
            else:
                expected = min(wanted, total // 10)
            assert found[f"{length}_terms"] == expected
            for row in rows:
                if row["task"] == f"{length}_terms":
                    assert len(terms(row)) == length
                    assert all(least <= abs(term) <= most for term in terms(row))
        for row in rows:
            assert sympy.sympify(expression(row)) == sympy.Integer(row["answer"])
            assert row["answer"] == str(int(row["answer"]))
            assert brackets or "(" not in row["prompt"]


def test_every_question_is_asked_once_if_all_are_wanted(tmp_path: Path) -> None:
    """Of [-1, 0, 1] there are 2 x 4 x 27 questions with three terms."""
    many = {f"{part}_per_length": 1000 for part in ("train", "validation", "test")}
    splits = load(tmp_path, **many, terms=[3, 3], largest=1)
    found = {split: len(rows) for split, rows in splits.items() if split != "extrapolate"}
    assert found == {"interpolate": 21, "validation": 21, "train": 174}
    own = {row["prompt"] for split in found for row in splits[split]}
    patterns = ["What is {} {} {} {} {}?", "What is {} {} ({} {} {})?"]
    choices = [[-1, 0, 1], "+-", [-1, 0, 1], "+-", [-1, 0, 1]]
    assert own == {p.format(*c) for p in patterns for c in itertools.product(*choices)}


def test_all_ways_of_bracketing_are_equally_frequent(tmp_path: Path) -> None:
    rows = load(tmp_path, terms=[4, 4], largest=999, train_per_length=5000)["train"]
    found = collections.Counter(re.sub(r"-?\d+", "t", expression(row)) for row in rows)
    without_operators: dict[str, int] = collections.Counter()
    for text, count in found.items():
        without_operators[re.sub(r" [+-] ", "+", text)] += count
    assert set(without_operators) == {
        *("t+t+t+t", "t+t+(t+t)", "t+(t+t)+t", "t+(t+t+t)", "t+(t+(t+t))"),
    }
    assert all(900 < count < 1100 for count in without_operators.values())


def test_terms_operators_and_their_order_are_uniform(tmp_path: Path) -> None:
    rows = load(tmp_path, terms=[4, 4], largest=5, train_per_length=20000)["train"]
    drawn = [terms(row) for row in rows]
    for position in range(4):
        found = collections.Counter(each[position] for each in drawn)
        assert set(found) == set(range(-5, 6))
        assert all(abs(count - 20000 / 11) < 200 for count in found.values())
    for position in range(3):
        pluses = sum(re.findall(r" ([+-]) ", row["prompt"])[position] == "+" for row in rows)
        assert abs(pluses - 10000) < 350


def test_only_arguments_decide(tmp_path: Path) -> None:
    splits = load(tmp_path / "one")
    assert load(tmp_path / "two") == splits
    assert load(tmp_path / "one", seed=1)["train"] != splits["train"]
    changes: list[dict[str, Any]] = [
        *({}, {"seed": 1}, {"train_per_length": 13}, {"terms": [2, 3]}, {"largest": 8}),
        *({"brackets": False}, {"extrapolate_terms": [6, 6]}, {"extrapolate_largest": 20}),
        *({"extrapolate_terms": None},),
    ]
    fingerprints = {
        Sums(**{**SMALL, **other}, cache_dir=tmp_path).fingerprint() for other in changes
    }
    assert len(fingerprints) == len(changes)


def test_the_examples_are_the_same_for_ever(tmp_path: Path) -> None:
    """If this fails, raise `version`: committed reports are of other examples."""
    splits = load(tmp_path, extrapolate_largest=30)
    lines = [row["prompt"] + row["answer"] for rows in splits.values() for row in rows]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == "d745e973034ad17d"
    fingerprint = Sums(**SMALL, cache_dir=tmp_path).fingerprint()
    assert fingerprint[:16] == "25f967188cc6c8de"


@pytest.mark.parametrize("span", [[1, 2], [3, 2], [2, 9], [2], [2, 3.0], 3])
@pytest.mark.parametrize("key", ["terms", "extrapolate_terms"])
def test_impossible_lengths_are_refused(tmp_path: Path, key: str, span: Any) -> None:
    with pytest.raises(UsageError, match=f"dataset.{key}=.*from 2 to 8, as") as error:
        load(tmp_path, **{key: span})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_impossible_sizes_are_refused(tmp_path: Path, part: str, size: Any) -> None:
    advice = "at least 1" if type(size) is int else "a whole number"
    with pytest.raises(UsageError, match=rf"dataset\.{part}_per_length=\S*: give {advice}"):
        load(tmp_path, **{f"{part}_per_length": size})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"largest": 0}, "dataset.largest=0: give at least 1"),
        ({"brackets": 1}, "dataset.brackets=1: give true or false"),
        ({"extrapolate_largest": 9}, "give more than dataset.largest, 9, or null"),
        ({"extrapolate_terms": [4, 5]}, "dataset.extrapolate_terms has 4 terms, as training has"),
    ],
)
def test_other_impossible_settings_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load(tmp_path, **options)
    assert "\n" not in str(error.value)


def test_the_configuration_is_as_its_header_says(tmp_path: Path) -> None:
    config = compose(["dataset=sums", "dataset.train_per_length=500", f"cache_dir={tmp_path}"])
    data = build(config.dataset, "dataset")
    splits = data.load()
    assert data.test_splits == ("interpolate", "extrapolate")
    for split in ("train", "validation", "interpolate"):
        assert set(splits[split]["task"]) == {"3_terms", "4_terms"}
    assert set(splits["extrapolate"]["task"]) == {"5_terms"}
    assert any("(" in prompt for prompt in splits["train"]["prompt"])
