"""What several seeds say about a mean, and about a difference of means."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
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
        std: standard deviation between seeds (n - 1 in the denominator).
        low, high: 95% interval of the mean by Student's t with n - 1 degrees of freedom.
    """

    mean: float
    std: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def summarize(values: Sequence[float]) -> Summary:
    """Summary of one value per seed."""
    n = len(values)
    if n == 0:
        return Summary(NAN, NAN, NAN, NAN, 0)
    mean = float(np.mean(values))
    if n == 1:
        return Summary(mean, NAN, NAN, NAN, 1)
    std = float(np.std(values, ddof=1))
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * std / n**0.5
    return Summary(mean, std, mean - margin, mean + margin, n)


def contrast(by_seed: Mapping[Row, Mapping[int, float]], weights: Mapping[Row, float]) -> Summary:
    """Summary of sum_row weight x value, formed within each seed that every row of `weights` has.

    Runs of one seed share their data order and most of their initialisation, so that differences
    within a seed vary less than the difference of two independent means. With weights {a: 1, b: -1}
    this is the paired t interval of a - b.
    """
    seeds = set.intersection(*(set(by_seed.get(row, ())) for row in weights))
    return summarize(
        [
            sum(weight * by_seed[row][seed] for row, weight in weights.items())
            for seed in sorted(seeds)
        ]
    )
