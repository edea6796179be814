"""pass@k: the probability that at least one of k samples of a problem passes its tests.

Source: Chen et al. (2021), "Evaluating Large Language Models Trained on Code", section 2.1; MTP
paper, table 1 and appendix (90% bootstrap intervals over problems, the best temperature per cell).

Shapes: P problems, T temperatures, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyond_ce.errors import UsageError

Floats = NDArray[np.float64]

CONFIDENCE = 0.9
RESAMPLES = 10_000
_DRAWS_AT_ONCE = 2**22  # 32 MiB
_TIE = 1e-9  # sums of pass@k that differ by rounding alone


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate 1 - C(n - c, k) / C(n, k) from `n` samples of which `c` are right.

    It is the share of all subsets of k of the n samples that hold a right one.

    Raises:
        UsageError: there are fewer than k samples, or the numbers make no sense.
    """
    return float(pass_at_k_each([n], [c], k)[0])


def pass_at_k_each(n: ArrayLike, c: ArrayLike, k: int) -> Floats:
    """`pass_at_k` of every problem, float64 [P]; each may have its own number of samples.

    Args:
        n, c: whole numbers [P], or one for all problems.

    Raises:
        UsageError: as `pass_at_k`.
    """
    samples, right = np.broadcast_arrays(np.atleast_1d(n), np.atleast_1d(c))
    if k < 1:
        raise UsageError(f"pass@{k}: k must be at least 1")
    if wrong := [pair for pair in zip(samples, right, strict=True) if not 0 <= pair[1] <= pair[0]]:
        raise UsageError(f"{wrong[0][1]} of {wrong[0][0]} samples cannot be right")
    if samples.size and (fewest := int(samples.min())) < k:
        raise UsageError(
            f"pass@{k} needs at least {k} samples of every problem, and one has {fewest}: "
            "draw more samples, or leave out this k"
        )
    estimates = np.empty(samples.shape)
    for count in np.unique(samples):
        # C(n - c, k) / C(n, k) is the product of 1 - k / i for i = n, n - 1, .., n - c + 1. Its
        # factors lie in [0, 1] down to i = k, whose factor is zero, and so is all that follows.
        factors = 1.0 - k / np.arange(count, 0, -1)
        all_wrong = np.cumprod(np.concatenate(([1.0], factors)))
        rows = samples == count
        estimates[rows] = 1.0 - all_wrong[right[rows]]
    return estimates


@dataclass(frozen=True)
class Estimate:
    """A mean over problems, with the ends of its interval (see `over_temperatures`)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OverTemperatures:
    """pass@k of a set of problems, sampled at several temperatures.

    Attributes:
        at: the mean at each temperature.
        oracle: the largest of these means, as the MTP paper reports. It flatters, the more the
            fewer the problems and the more the temperatures, as the same problems choose and score.
        best: the oracle's temperature.
        held_out: the mean where each half of the problems is scored at the temperature that is best
            for the other half; None for a single problem.
        chosen: the temperatures of the first and of the second half.
    """

    at: dict[float, Estimate]
    oracle: Estimate
    best: float
    held_out: Estimate | None
    chosen: tuple[float, float]


def over_temperatures(
    values: ArrayLike,
    temperatures: Sequence[float],
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> OverTemperatures:
    """Means over problems, at each temperature and at chosen ones, with bootstrap intervals.

    Intervals are percentiles over resamples of the problems with replacement, the same resamples
    for all. In each resample the temperatures are chosen anew. Of equally good temperatures the
    first is chosen. Halves are every other problem, in the given order.

    Args:
        values: [P, T], of each problem at each temperature.
        seed: of the resamples.

    Raises:
        UsageError: there are no problems.
    """
    table = np.asarray(values, dtype=np.float64)
    problems = len(table)
    if not problems:
        raise UsageError("there are no problems to average over")
    once = np.ones((1, problems))
    means, choices = _statistics(once, table)
    drawn = [_statistics(w, table)[0] for w in _resample(problems, resamples, seed)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail], axis=0)
    found = [Estimate(*map(float, ends)) for ends in zip(means[0], low, high, strict=True)]
    best, first, second = (temperatures[i] for i in choices[0])
    return OverTemperatures(
        at=dict(zip(temperatures, found[:-2], strict=True)),
        oracle=found[-2],
        best=best,
        held_out=found[-1] if problems > 1 else None,
        chosen=(first, second),
    )


def _resample(problems: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each problem is drawn in each resample, [R', P], in parts that fit into memory."""
    rng = np.random.default_rng(seed)
    most = max(1, _DRAWS_AT_ONCE // problems)
    for start in range(0, resamples, most):
        rows = min(most, resamples - start)
        drawn = rng.integers(problems, size=(rows, problems))
        drawn += problems * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * problems)
        yield counts.reshape(rows, problems).astype(np.float64)


def _statistics(weights: Floats, table: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Of each row of weights [R, P]: the means at each temperature, the oracle's and the held-out
    one, [R, T + 2]; and the temperatures of the oracle, the first and the second half, [R, 3]."""
    first = weights[:, ::2] @ table[::2]
    second = weights[:, 1::2] @ table[1::2]
    total = weights.sum(axis=1, keepdims=True)
    best, for_first, for_second = map(_first_best, (first + second, second, first))
    rows = np.arange(len(weights))
    oracle = first[rows, best] + second[rows, best]
    held_out = first[rows, for_first] + second[rows, for_second]
    sums = np.column_stack([first + second, oracle, held_out])
    return sums / total, np.stack([best, for_first, for_second], axis=1)


def _first_best(sums: Floats) -> NDArray[np.intp]:
    """The index of the largest of each row [R, T], up to rounding the first of several."""
    return (sums >= sums.max(axis=1, keepdims=True) - _TIE).argmax(axis=1)
