import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from beyond_ce.reporting.statistics import contrast, summarize

values = st.floats(-100, 100).map(lambda x: round(x, 3))
samples = st.integers(2, 8).flatmap(
    lambda n: st.tuples(
        st.lists(values, min_size=n, max_size=n), st.lists(values, min_size=n, max_size=n)
    )
)


def test_three_seeds_by_hand():
    summary = summarize([1.0, 2.0, 3.0])
    assert (summary.mean, summary.std, summary.n) == (2, 1, 3)
    # t with 2 degrees of freedom at 97.5% is 4.3027
    assert summary.low == pytest.approx(2 - 4.302653 / 3**0.5)
    assert summary.high == pytest.approx(2 + 4.302653 / 3**0.5)
    assert not summary.excludes_zero


def test_one_seed_has_a_mean_and_nothing_else():
    summary = summarize([0.5])
    assert (summary.mean, summary.n) == (0.5, 1)
    assert all(map(math.isnan, (summary.std, summary.low, summary.high)))
    assert not summary.excludes_zero


def test_no_seed_has_nothing():
    summary = summarize([])
    assert summary.n == 0
    assert all(map(math.isnan, (summary.mean, summary.std, summary.low, summary.high)))


@given(samples)
def test_a_difference_has_the_interval_of_the_paired_t_test(sample):
    a, b = sample
    differences = np.subtract(a, b)
    if np.ptp(differences) < 1e-6:
        return
    own = contrast({"a": dict(enumerate(a)), "b": dict(enumerate(b))}, {"a": 1, "b": -1})
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert own.low == pytest.approx(expected.low, abs=1e-6)
    assert own.high == pytest.approx(expected.high, abs=1e-6)


def test_only_seeds_that_every_row_has_count():
    by_seed = {"a": {0: 1.0, 1: 2.0, 2: 100.0}, "b": {1: 1.0, 0: 0.0, 5: 7.0}}
    difference = contrast(by_seed, {"a": 1, "b": -1})
    assert (difference.mean, difference.std, difference.n) == (1, 0, 2)
    assert contrast(by_seed, {"a": 1, "missing": -1}).n == 0


def test_difference_of_differences():
    by_seed = {row: {0: value} for row, value in zip("abcd", (1.0, 2.0, 4.0, 8.0), strict=True)}
    interaction = contrast(by_seed, {"d": 1, "c": -1, "b": -1, "a": 1})
    assert interaction.mean == (8 - 4) - (2 - 1)
