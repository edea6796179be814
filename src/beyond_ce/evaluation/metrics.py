"""Measures of how far predicted numbers are from their targets.

Every function takes two float arrays of shape [N] without NaN, averages over the N pairs with equal
weight and returns a float: NaN where the measure is not defined (no pairs, constant targets).
Units are those of the targets unless the docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
NAN = float("nan")
OUTLIER = 10.0
"""A prediction beyond so many times the largest absolute target is an outlier."""


def mae(predicted: Values, target: Values) -> float:
    """Mean absolute error. A few answers of the wrong length dominate it; see `median_ae`."""
    return float(np.mean(np.abs(predicted - target))) if len(target) else NAN


def median_ae(predicted: Values, target: Values) -> float:
    """Median absolute error."""
    return float(np.median(np.abs(predicted - target))) if len(target) else NAN


def capped_mae(predicted: Values, target: Values) -> float:
    """`mae` of `capped` predictions."""
    return mae(capped(predicted, target), target)


def log_median_ae(predicted: Values, target: Values) -> float:
    """log10(1 + `median_ae`): in decades, to compare tasks whose answers differ in size."""
    return float(np.log10(1 + median_ae(predicted, target)))


def mse(predicted: Values, target: Values) -> float:
    """Mean squared error, in squared units."""
    return float(np.mean((predicted - target) ** 2)) if len(target) else NAN


def rmse(predicted: Values, target: Values) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(mse(predicted, target)))


def r2(predicted: Values, target: Values) -> float:
    """Coefficient of determination, 1 - SS_res / SS_tot, at most 1 and without a lower bound.

    The mean in SS_tot is that of these targets: pooling two test sets and averaging their R^2 give
    different numbers. NaN for constant targets.
    """
    total = float(np.sum((target - np.mean(target)) ** 2)) if len(target) else 0.0
    return 1 - float(np.sum((predicted - target) ** 2)) / total if total else NAN


def capped_r2(predicted: Values, target: Values) -> float:
    """`r2` of `capped` predictions."""
    return r2(capped(predicted, target), target)


def mape(predicted: Values, target: Values) -> float:
    """Mean absolute percentage error as a fraction: 0.5 is 50%.

    Targets of exactly 0 are left out, the relative error being undefined there. Targets near 0 stay
    and can dominate the mean: being off by 1 costs 1.0 at a target of 1 and 0.01 at 100.
    """
    known = target != 0
    if not known.any():
        return NAN
    return float(np.mean(np.abs((predicted[known] - target[known]) / target[known])))


def pearson(predicted: Values, target: Values) -> float:
    """Pearson's correlation; NaN when either side is constant."""
    if len(target) < 2 or np.ptp(predicted) == 0 or np.ptp(target) == 0:
        return NAN
    return float(np.corrcoef(predicted, target)[0, 1])


def spearman(predicted: Values, target: Values) -> float:
    """Spearman's rank correlation, ties share their mean rank; NaN when a side is constant."""
    return pearson(_ranks(predicted), _ranks(target))


def log_mae(predicted: Values, target: Values) -> float:
    """`mae` after sign(x) log10(1 + |x|), the "MAE" of the paper's table 1: in decades."""
    return mae(log_scale(predicted), log_scale(target))


def log_r2(predicted: Values, target: Values) -> float:
    """`r2` after sign(x) log10(1 + |x|)."""
    return r2(log_scale(predicted), log_scale(target))


def capped(predicted: Values, target: Values) -> Values:
    """Predictions with outliers pulled in to +-`OUTLIER` times the largest absolute target, so that
    one answer with many digits too many does not decide the mean of all."""
    if not len(target):
        return predicted
    most = OUTLIER * np.max(np.abs(target))
    return np.clip(predicted, -most, most)


def log_scale(values: Values) -> Values:
    """sign(x) log10(1 + |x|): the logarithm for large numbers, continued through 0."""
    return np.sign(values) * np.log1p(np.abs(values)) / np.log(10)


def _ranks(values: Values) -> Values:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


DISTANCES: dict[str, Callable[[Values, Values], float]] = {
    "mae": mae,
    "capped_mae": capped_mae,
    "median_ae": median_ae,
    "log_median_ae": log_median_ae,
    "mse": mse,
    "rmse": rmse,
    "r2": r2,
    "capped_r2": capped_r2,
    "mape": mape,
    "pearson": pearson,
    "spearman": spearman,
    "log_mae": log_mae,
    "log_r2": log_r2,
}
