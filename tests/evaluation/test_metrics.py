import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from beyond_ce.evaluation import metrics

PREDICTED = np.array([1.0, 5.0, -2.0, 10.0])
TARGET = np.array([1.0, 4.0, 2.0, 0.0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mae", (0 + 1 + 4 + 10) / 4),
        ("median_ae", 2.5),
        ("log_median_ae", math.log10(3.5)),
        ("mse", (0 + 1 + 16 + 100) / 4),
        ("rmse", 117**0.5 / 2),
        # targets are at most 4 in size, so that none of the predictions exceeds the cap of 40
        ("capped_mae", (0 + 1 + 4 + 10) / 4),
        ("capped_r2", 1 - 117 / 8.75),
        # mean 1.75, SS_tot = .5625 + 5.0625 + .0625 + 3.0625
        ("r2", 1 - 117 / 8.75),
        # the zero target is left out
        ("mape", (0 + 1 / 4 + 4 / 2) / 3),
    ],
)
def test_by_hand(name, value):
    assert metrics.DISTANCES[name](PREDICTED, TARGET) == pytest.approx(value)


def test_outliers_are_capped_at_ten_times_the_largest_target():
    target = np.array([4.0, -2.0, 1.0])
    predicted = np.array([41.0, -4000.0, 40.0])
    assert list(metrics.capped(predicted, target)) == [40, -40, 40]
    assert metrics.capped_mae(predicted, target) == pytest.approx((36 + 38 + 39) / 3)
    # mean 1, SS_tot = 9 + 9 + 0
    assert metrics.capped_r2(predicted, target) == 1 - (36**2 + 38**2 + 39**2) / 18


def test_log_scale_counts_decades_through_zero():
    values = metrics.log_scale(np.array([0.0, 9.0, -99.0]))
    assert values == pytest.approx([0, 1, -2])
    assert metrics.log_mae(np.array([0.0, 9.0]), np.array([9.0, -99.0])) == pytest.approx(2.0)
    assert metrics.log_r2(np.array([9.0, 0.0]), np.array([9.0, 99.0])) == pytest.approx(1 - 4 / 0.5)


pairs = st.integers(3, 30).flatmap(
    lambda n: st.tuples(
        *[arrays(np.float64, n, elements=st.integers(-20, 20).map(float)) for _ in range(2)]
    )
)


@given(pair=pairs)
def test_correlations_agree_with_scipy(pair):
    predicted, target = pair
    if np.ptp(predicted) == 0 or np.ptp(target) == 0:
        assert math.isnan(metrics.pearson(predicted, target))
        assert math.isnan(metrics.spearman(predicted, target))
    else:
        for own, scipys in ((metrics.pearson, stats.pearsonr), (metrics.spearman, stats.spearmanr)):
            expected = scipys(predicted, target).statistic
            assert own(predicted, target) == pytest.approx(expected, abs=1e-9)


@given(pair=pairs)
def test_a_perfect_prediction_has_no_distance(pair):
    target = pair[1]
    for name in ("mae", "capped_mae", "median_ae", "log_median_ae", "mse", "rmse", "log_mae"):
        assert metrics.DISTANCES[name](target, target) == 0
    for name in ("r2", "capped_r2", "log_r2"):
        value = metrics.DISTANCES[name](target, target)
        assert math.isnan(value) if np.ptp(target) == 0 else value == 1


@pytest.mark.parametrize("name", metrics.DISTANCES)
def test_nothing_to_measure_is_nan_without_a_warning(name, recwarn):
    assert math.isnan(metrics.DISTANCES[name](np.array([]), np.array([])))
    assert not recwarn.list
