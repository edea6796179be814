"""Power, Stein's two stages and Holm's procedure against textbooks, brute force and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from beyond_ce.reporting.power import (
    ALPHA,
    detectable,
    holm,
    p_value,
    seeds_for_equivalence,
    seeds_for_power,
    seeds_for_width,
)
from beyond_ce.reporting.statistics import summarize

rng = np.random.default_rng(0)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 30])
def test_the_detectable_effect_is_found_in_four_of_five_samples(n):
    sample = stats.zscore(rng.normal(size=n), ddof=1)  # spread 1 exactly
    effect = detectable(summarize(list(sample)))
    drawn = effect + rng.normal(size=(50_000, n))
    t = drawn.mean(1) / drawn.std(1, ddof=1) * n**0.5
    # 0.0018 is the standard error of the share.
    assert np.mean(np.abs(t) > stats.t.isf(ALPHA, n - 1)) == pytest.approx(0.8, abs=0.007)


@pytest.mark.parametrize("freedom", [5, 10, 40])
def test_it_is_that_of_the_noncentral_t_distribution(freedom):
    n = freedom + 1
    effect = detectable(summarize(list(3 * stats.zscore(rng.normal(size=n), ddof=1))))
    found = stats.nct.sf(stats.t.isf(ALPHA, freedom), freedom, effect / 3 * n**0.5)
    assert found == pytest.approx(0.8, abs=1e-4)


def test_what_has_no_spread_detects_nothing_and_asks_for_no_seeds():
    assert math.isnan(detectable(summarize([1.0])))
    assert math.isnan(detectable(summarize([])))
    assert math.isnan(detectable(summarize([1.0, 1.0])))
    assert seeds_for_power(math.nan, 1.0) is None
    assert seeds_for_power(1.0, math.nan) is None
    assert seeds_for_power(1.0, 0.0) is None
    assert seeds_for_power(1.0, -0.1) is None
    assert seeds_for_power(0.0, 0.1) == 2


def test_seeds_for_power_by_the_textbook():
    # One-sample t test, two-sided at 5%, 80%: tables give n = 34 for d = 0.5 and 10 for d = 1.
    assert seeds_for_power(2.0, 1.0) == 34
    assert seeds_for_power(1.0, 1.0) == 10


@given(st.floats(0.1, 3.0))
def test_seeds_for_power_is_the_smallest_number_that_detects_the_effect(effect):
    n = seeds_for_power(1.0, effect)
    pattern = np.tile([1.0, -1.0], n)[:n]
    assume(n > 3)
    assert detectable(summarize(list(stats.zscore(pattern, ddof=1)))) <= effect * (1 + 1e-9)
    fewer = stats.zscore(pattern[:-1], ddof=1)
    assert detectable(summarize(list(fewer))) > effect


def equivalence_found(n, margin, true):
    """Share of samples, of spread 1, that two one-sided t tests call equivalent."""
    means = true + rng.normal(size=100_000) / n**0.5
    errors = (rng.chisquare(n - 1, size=100_000) / (n - 1) / n) ** 0.5
    return np.mean(np.abs(means) + stats.t.isf(ALPHA, n - 1) * errors < margin)


@pytest.mark.parametrize(("margin", "true"), [(1.0, 0.0), (0.6, 0.0), (1.0, 0.5), (2.0, 0.1)])
def test_seeds_for_equivalence_find_it_in_four_of_five_samples(margin, true):
    n = seeds_for_equivalence(1.0, margin, true)
    assert equivalence_found(n, margin, true) > 0.795
    assert equivalence_found(n - 1, margin, true) < 0.805
    assert seeds_for_equivalence(3.0, 3 * margin, -3 * true) == n


def test_equivalence_by_the_textbook_and_where_there_is_none():
    # Two one-sided tests at 2.5% each, known spread: ((z_.975 + z_.9) / margin)^2 = 10,507.
    assert seeds_for_equivalence(1.0, math.sqrt(10.507 / 10_507), 0.0) == pytest.approx(
        10_507, abs=3
    )
    assert seeds_for_equivalence(0.0, 0.5, 0.1) == 2
    assert seeds_for_equivalence(1.0, 0.5, 0.5) is None
    assert seeds_for_equivalence(math.nan, 0.5, 0.0) is None


def test_stein_by_hand():
    # t of 2 degrees of freedom at 97.5% is 4.3027: (4.3027 * 1 / 1.5)^2 = 8.23.
    assert seeds_for_width(1.0, 3, 1.5) == 9
    # Never fewer than the first stage has: (4.3027 * 0.1 / 1.5)^2 = 0.08.
    assert seeds_for_width(0.1, 3, 1.5) == 3
    assert seeds_for_width(0.0, 5, 1.5) == 5
    # Two at once: t at 98.75% is 6.2053: (6.2053 / 1.5)^2 = 17.1.
    assert seeds_for_width(1.0, 3, 1.5, tests=2) == 18
    # A whole number stays one.
    t = float(stats.t.isf(ALPHA, 2))
    assert seeds_for_width(2.0, 3, t * 2.0 / 4.0) == 16


def test_the_two_stage_interval_by_hand():
    # First stage 1, 3, 5: s = 2, two degrees of freedom. Then 2, 4: mean 3, n = 5.
    summary = summarize([1.0, 3.0, 5.0, 2.0, 4.0], first=3)
    assert (summary.mean, summary.n, summary.first, summary.freedom) == (3, 5, 3, 2)
    assert summary.high == pytest.approx(3 + 4.302653 * 2 / 5**0.5)
    assert summary.low == pytest.approx(3 - 4.302653 * 2 / 5**0.5)
    assert summary.standard_error == pytest.approx(2 / 5**0.5)
    assert summary.std == pytest.approx(np.std([1, 2, 3, 4, 5], ddof=1))


def test_one_wild_seed_of_a_second_stage_widens_the_interval():
    first = [0.01, -0.01, 0.0, 0.02, -0.02, 0.01, 0.0, -0.01]
    summary = summarize([*first, 0.0, 0.01, -0.9], first=8)
    assert summary.low < 0 < summary.high  # -0.081, which Stein's own interval, ±0.009, excludes
    assert summary.standard_error == pytest.approx(summary.std / 11**0.5)
    assert (summary.first, summary.freedom) == (None, 10)


def test_of_two_intervals_each_level_has_the_wider_one():
    # Ordinary: t of 10 degrees of freedom, the wider at 95%. At .1% the 3 of the first stage are.
    values = [1.0, 1.2, 0.8, 1.0, 0.6, 1.4, 1.9, 0.1, 1.0, 1.5, 0.5]
    summary = summarize(values, first=4)
    assert summary.freedom == 10 and summary.narrower is not None
    first, everything = (np.std(v, ddof=1) / 11**0.5 for v in (values[:4], values))
    for excess in (0.1, 0.3, 1.0, 3.0):
        both = [stats.t.sf(excess / first, 3), stats.t.sf(excess / everything, 10)]
        assert p_value(summary, excess) == pytest.approx(max(both))
    assert stats.t.sf(1.0 / first, 3) > stats.t.sf(1.0 / everything, 10)
    assert stats.t.sf(0.1 / first, 3) < stats.t.sf(0.1 / everything, 10)


@pytest.mark.parametrize("first", [None, 0, 1, 5, 9])
def test_a_stage_that_has_no_spread_or_is_all_is_no_stage(first):
    values = [1.0, 2.0, 3.0, 6.0, 8.0]
    assert summarize(values, first) == summarize(values)


def draw(runs, first, later, half_width, mean=0.0):
    """Simulated first stages, Stein's number of seeds for each, and the mean of all of them."""
    stage = rng.normal(mean, 1, size=(runs, first))
    spread = stage.std(1, ddof=1)
    total = np.array([seeds_for_width(s, first, half_width) for s in spread])
    total = np.minimum(total, later)
    # The sum of the second stage is normal with the variance of its number of seeds.
    added = total - first
    rest = rng.normal(size=runs) * added**0.5 + mean * added
    return stage, spread, total, (stage.sum(1) + rest) / total


@pytest.mark.parametrize(("first", "cap"), [(3, 10**9), (3, 20), (8, 10**9), (8, 12)])
def test_seeds_added_by_stein_keep_the_coverage_of_the_interval(first, cap):
    _, spread, total, mean = draw(8_000, first, cap, half_width=0.4, mean=0.3)
    assert (total > first).mean() > 0.5  # most of them have a second stage
    half = stats.t.isf(ALPHA, first - 1) * spread / total**0.5
    covered = np.mean(np.abs(mean - 0.3) <= half)
    assert covered == pytest.approx(0.95, abs=0.01)  # its standard error is 0.0024
    if cap == 10**9:
        assert np.all(half <= 0.4 + 1e-9)


def test_seeds_added_until_the_interval_excludes_zero_do_not():
    runs, first, most = 10_000, 3, 20
    values = rng.normal(size=(runs, most))
    ended = np.zeros(runs, bool)
    for n in range(first, most + 1):
        some = values[:, :n]
        t = some.mean(1) / some.std(1, ddof=1) * n**0.5
        ended |= np.abs(t) > stats.t.isf(ALPHA, n - 1)
    assert ended.mean() > 0.2  # where 0.05 was promised


def test_nor_do_those_added_only_where_the_first_stage_decides_nothing():
    """Why the number of seeds depends on spreads only, for every claim, decided or not."""
    stage, spread, total, mean = draw(8_000, 5, 10**9, half_width=0.2)
    t = stats.t.isf(ALPHA, 4)
    at_first = np.abs(stage.mean(1)) > t * spread / 5**0.5
    at_last = np.abs(mean) > t * spread / total**0.5
    assert np.mean(at_last) == pytest.approx(0.05, abs=0.01)
    assert np.mean(at_first | at_last) > 0.075


@pytest.mark.parametrize("last", [6, 8, 10])
def test_a_first_stage_that_is_enlarged_once_where_it_decides_nothing_is_wrong_in_9_percent(last):
    values = rng.normal(size=(20_000, last))
    looks = [stats.ttest_1samp(values[:, :n], 0, axis=1).pvalue < 2 * ALPHA for n in (3, last)]
    assert np.mean(looks[0] | looks[1]) == pytest.approx(0.09, abs=0.01)


def test_summarize_is_the_interval_that_was_simulated():
    stage, spread, total, _ = draw(20, 4, 9, half_width=1.0)
    for values, s, n in zip(stage, spread, total, strict=True):
        rest = rng.normal(size=n - 4)
        summary = summarize([*values, *rest], first=4)
        everything = np.std([*values, *rest], ddof=1)
        half = max(stats.t.isf(ALPHA, 3) * s, stats.t.isf(ALPHA, n - 1) * everything) / n**0.5
        assert (summary.high - summary.low) / 2 == pytest.approx(half)
        assert summary.mean == pytest.approx((values.sum() + rest.sum()) / n)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.floats(-5, 5))
def test_a_p_value_says_what_the_interval_says(values, bound):
    summary = summarize(values)
    assume(min(abs(summary.low - bound), abs(summary.high - bound)) > 1e-9)
    assert (p_value(summary, summary.mean - bound) <= ALPHA) == (summary.low > bound)
    assert (p_value(summary, bound - summary.mean) <= ALPHA) == (summary.high < bound)


def test_without_an_interval_nothing_is_shown():
    assert p_value(summarize([3.0]), 3.0) == 1
    assert p_value(summarize([1.0, 2.0]), math.nan) == 1
    assert p_value(summarize([2.0, 2.0]), 2.0) == 0
    assert p_value(summarize([2.0, 2.0]), 0.0) == 1


def test_holm_by_hand():
    # 0.025 / 3, 0.025 / 2 and 0.025 are the bounds in turn.
    assert holm([0.02, 0.008, 0.012]) == [True, True, True]
    assert holm([0.02, 0.009, 0.012]) == [False, False, False]
    assert holm([0.03, 0.001, 0.012]) == [False, True, True]
    assert holm([0.02]) == [True]
    assert holm([]) == []


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=5))
def test_holm_is_the_closed_test(p_values):
    """A hypothesis falls if Bonferroni rejects every intersection that it is part of."""
    everything = range(len(p_values))
    subsets = [
        set(chosen)
        for size in everything
        for chosen in itertools.combinations(everything, size + 1)
    ]
    expected = [
        all(min(p_values[j] for j in s) <= ALPHA / len(s) for s in subsets if i in s)
        for i in everything
    ]
    assert holm(p_values) == expected


def test_holm_keeps_the_probability_of_any_error():
    # Two of four hypotheses are true, and their tests depend on each other.
    shared = rng.normal(size=(3_000, 1))
    z = 0.7 * shared + 0.51**0.5 * rng.normal(size=(3_000, 4)) + [0, 0, 3, 4]
    wrong = sum(any(holm(list(p))[:2]) for p in stats.norm.sf(z))
    assert wrong / 3_000 <= ALPHA + 0.008
