"""What a number of seeds can show, how many it takes, and verdicts on several tests at once."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special, stats

from beyond_ce.reporting.statistics import CONFIDENCE, NAN, Summary

POWER = 0.8
ALPHA = (1 - CONFIDENCE) / 2  # of a test on one side


def detectable(difference: Summary) -> float:
    """The true effect that the difference's 95% interval excludes zero for with 80% probability.

    That is the power of the paired t test, by the noncentral t distribution, with the difference's
    own spread. NaN where there is no interval, and where all seeds agree: what has never been seen
    to vary bounds nothing.
    """
    if difference.freedom < 1 or difference.standard_error == 0:
        return NAN
    return _noncentrality(difference.freedom) * difference.standard_error


@functools.cache
def _noncentrality(freedom: int) -> float:
    """The true effect in standard errors that the two-sided t test finds with 80% probability."""
    t = float(stats.t.isf(ALPHA, freedom))
    spread = _spreads(freedom)

    def excess(effect: float) -> float:
        # Not scipy's noncentral t, which is NaN for few degrees of freedom.
        found = special.ndtr(effect - t * spread) + special.ndtr(-effect - t * spread)
        return float(found.mean()) - POWER

    # Above the normal distribution's 2.8; with one degree of freedom it is 16.3.
    return float(optimize.brentq(excess, 2.0, 30.0, xtol=1e-6))


def _spreads(freedom: int) -> np.ndarray:
    """The estimated spread over the true one, at evenly spaced probabilities."""
    return (stats.chi2.ppf((np.arange(10_000) + 0.5) / 10_000, freedom) / freedom) ** 0.5


def seeds_for_power(spread: float, effect: float) -> int | None:
    """How many seeds find `effect` with 80% probability, all run at once and judged at the end.

    Args:
        spread: standard deviation between seeds of the paired difference.

    Returns:
        The smallest number that does (beyond 1000 by the normal distribution, two or so fewer);
        None where there is no effect to find, or no spread yet.
    """
    if not (effect > 0 and math.isfinite(effect) and math.isfinite(spread)):
        return None
    normal = float(stats.norm.isf(ALPHA) + stats.norm.ppf(POWER)) * spread / effect
    n = max(2, math.ceil(normal**2))  # the t distribution needs a few more
    if n > 1000:
        return n
    while _noncentrality(n - 1) * spread / n**0.5 > effect:
        n += 1
    return n


def seeds_for_equivalence(spread: float, margin: float, true: float) -> int | None:
    """How many seeds find a difference within the margin on both sides with 80% probability.

    As `seeds_for_power`, for two one-sided tests: with no difference at all, one of them fails as
    easily as the other, so that it takes more seeds than one bound would.

    Args:
        true: the true difference, inside the margin.

    Returns:
        None where there is no such difference, or no spread yet.
    """
    if not (abs(true) < margin and math.isfinite(spread)):
        return None

    def enough(n: int) -> bool:
        return _equivalence_power(n - 1, margin * n**0.5 / spread, true * n**0.5 / spread) >= POWER

    if spread == 0 or enough(2):
        return 2
    high = 4
    while not enough(high):
        high *= 2
    # The smallest n that is enough: it grows with n.
    return bisect.bisect_left(range(high), True, lo=3, key=enough)


def _equivalence_power(freedom: int, margin: float, true: float) -> float:
    """Probability that the 95% interval lies within the margin; both in standard errors."""
    half = margin - float(stats.t.isf(ALPHA, freedom)) * _spreads(freedom)
    found = special.ndtr(half - true) - special.ndtr(-half - true)
    return float(np.maximum(found, 0).mean())


def seeds_for_width(spread: float, first: int, half_width: float, tests: int = 1) -> int:
    """Stein's number of seeds in all: enough for an interval of at most mean ± half_width.

    N = max(n0, ceil((t s / half_width)^2)), where t has n0 - 1 degrees of freedom (Stein, 1945).

    Args:
        spread: s, standard deviation between the n0 seeds of the first stage.
        first: n0, at least 2.
        tests: for so many intervals that are to hold together (Bonferroni).
    """
    t = float(stats.t.isf(ALPHA / tests, first - 1))
    # A hair less than the ratio, lest rounding add a seed to a whole number.
    return max(first, math.ceil((t * spread / half_width) ** 2 * (1 - 1e-9)))


def p_value(difference: Summary, excess: float) -> float:
    """p-value of the one-sided t test that the true mean is on this side of a bound.

    Args:
        excess: by how much the mean over seeds is on this side: mean - bound, bound - mean, or, for
            two bounds at once, the smaller of both.

    Returns:
        At most .025 exactly when the whole 95% interval is on this side; 1 without an interval.
        The larger one where there are two intervals to choose from, see `statistics.summarize`.
    """
    if difference.freedom < 1 or math.isnan(excess):
        return 1.0
    shown = difference.freedom, difference.standard_error
    return max(_tail(excess, *each) for each in (shown, difference.narrower) if each)


def _tail(excess: float, freedom: int, error: float) -> float:
    if error == 0:
        return 0.0 if excess > 0 else 1.0
    return float(stats.t.sf(excess / error, freedom))


def holm(p_values: Sequence[float]) -> list[bool]:
    """Which of several one-sided tests at 2.5% hold together, by Holm's step-down procedure.

    The smallest p-value is compared with alpha / k, the next with alpha / (k - 1), and so on up to
    the first that fails: the probability that any wrong one is among them is alpha at most.
    """
    holds = [False] * len(p_values)
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[i] > ALPHA / (len(p_values) - rank):
            break
        holds[i] = True
    return holds
