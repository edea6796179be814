"""What several seeds say about a mean, and about a difference of means."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import stats

NAN = float("nan")
CONFIDENCE = 0.95
Row = TypeVar("Row", bound=Hashable)


@dataclass(frozen=True)
class Summary:
    """Mean over seeds; what n is too small for is NaN, never 0.

    Attributes:
        std: standard deviation between all seeds (n - 1 in the denominator).
        low, high: 95% interval of the mean by Student's t, see `summarize`.
        first: how many of the n seeds are the first stage, whose spread makes the interval; None
            for all.
        narrower: degrees of freedom and standard error of the interval that is not the one shown,
            see `summarize`; at another level than 95% it may be the wider one.
    """

    mean: float
    std: float
    low: float
    high: float
    n: int
    first: int | None = None
    narrower: tuple[int, float] | None = None

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the interval."""
        return (self.first or self.n) - 1

    @property
    def standard_error(self) -> float:
        """Of the mean, as the interval has it; NaN where there is no interval."""
        return (self.high - self.low) / 2 / _t(self.freedom) if self.freedom > 0 else NAN


def summarize(values: Sequence[float], first: int | None = None) -> Summary:
    """Summary of one value per seed.

    Args:
        first: the first so many values are a first stage, after which the others were added
            (Stein, 1945). The interval is then mean ± t s / sqrt(n), with s and the degrees of
            freedom of t from the first stage. Where their number was chosen by the spread of
            the first stage, as `power.seeds_for_width` does, the mean given that spread is normal
            with variance sigma^2 / n whatever n is, so (mean - mu) sqrt(n) / s has Student's t
            distribution exactly. Computing s anew after a look would not have it. But where the
            ordinary interval of all n values is wider, it is that one: a training that fails once
            in twenty seeds is seldom among the first ones.
    """
    n = len(values)
    if n == 0:
        return Summary(NAN, NAN, NAN, NAN, 0)
    mean = float(np.mean(values))
    if n == 1:
        return Summary(mean, NAN, NAN, NAN, 1)
    std = float(np.std(values, ddof=1))
    intervals = [(n - 1, std / n**0.5)]  # degrees of freedom, standard error of the mean
    if first is not None and 2 <= first < n:
        intervals.append((first - 1, float(np.std(values[:first], ddof=1)) / n**0.5))
    *narrower, (freedom, error) = sorted(intervals, key=lambda each: _t(each[0]) * each[1])
    margin = _t(freedom) * error
    stage = freedom + 1 if freedom + 1 < n else None
    return Summary(mean, std, mean - margin, mean + margin, n, stage, *narrower)


def _t(freedom: int) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))


def contrast(
    by_seed: Mapping[Row, Mapping[int, float]],
    weights: Mapping[Row, float],
    first: Collection[int] | None = None,
) -> Summary:
    """Summary of sum_row weight x value, formed within each seed that every row of `weights` has.

    Runs of one seed share their data order and most of their initialisation, so that differences
    within a seed vary less than the difference of two independent means. With weights {a: 1, b: -1}
    this is the paired t interval of a - b.

    Args:
        first: the seeds of the first stage (see `summarize`); None for all.
    """
    seeds = sorted(set.intersection(*(set(by_seed.get(row, ())) for row in weights)))
    stages = [[s for s in seeds if first is None or s in first]]
    stages.append([s for s in seeds if s not in stages[0]])
    values = [
        sum(weight * by_seed[row][seed] for row, weight in weights.items())
        for stage in stages
        for seed in stage
    ]
    return summarize(values, len(stages[0]))
