"""Products of two integers of given lengths, the data of the NTL paper's table 5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beyond_ce.data.base import PromptAnswerData
from beyond_ce.data.cache import Splits
from beyond_ce.data.example import Example
from beyond_ce.data.sampling import Integers, bit_generator, sample_distinct
from beyond_ce.settings import COUNT, PATH, SEED, span, takes

Factors = tuple[Integers, Integers]
Cell = tuple[int, int]

_MAX_DIGITS = 7  # of a factor; pair counts up to here are exact in double precision
_HELD_OUT = 10  # testing and validation each take at most one product in ten


class Multiplication(PromptAnswerData):
    """`What is 123 * 45?` -> `5535`, with the lengths of the factors, "3x2", as the task.

    Every pair of lengths (a cell) has the same number of examples. If a cell has fewer products
    (1x1 has only 45), testing and validation take at most a tenth of them each, and training the
    rest. Factors are uniform among the positive integers of their length (without 0, because a
    product of 0 has no relative error).

    The splits: "interpolate" has cells that are in training, "extrapolate" those that are not (a
    split without cells is left out); "validation" and "train". 12 * 34 and 34 * 12 are the same
    product and always in the same split; no product is asked twice in the same order.

    The question mark tells a decoder-only model where the second factor ends and the answer starts.

    NOTE: the paper does not say how its pairs were drawn; balancing the cells is our choice.

    Args:
        train_per_cell: training examples of each cell.
        validation_per_cell: validation examples of each training cell.
        test_per_cell: test examples of each cell.
        train_digits: minimum and maximum digits of the factors to train on.
        test_digits: minimum and maximum digits of the factors to test on.
        seed: seed of the draw; independent of the run's.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
    """

    name = "multiplication"

    @takes(
        "dataset",
        train_per_cell=COUNT,
        validation_per_cell=COUNT,
        test_per_cell=COUNT,
        train_digits=span(1, _MAX_DIGITS),
        test_digits=span(1, _MAX_DIGITS),
        seed=SEED,
        cache_dir=PATH,
    )
    def __init__(
        self,
        *,
        train_per_cell: int,
        validation_per_cell: int,
        test_per_cell: int,
        train_digits: Sequence[int],
        test_digits: Sequence[int],
        seed: int,
        cache_dir: str | Path,
    ) -> None:
        self.sizes = {
            "train": train_per_cell,
            "validation": validation_per_cell,
            "test": test_per_cell,
        }
        self.train_digits = (train_digits[0], train_digits[1])
        self.test_digits = (test_digits[0], test_digits[1])
        self.seed = seed
        self.cache_dir = Path(cache_dir)
        tested = {self._regime(cell) for cell in _cells(self.test_digits)}
        self.test_splits = tuple(s for s in ("interpolate", "extrapolate") if s in tested)

    def _definition(self) -> dict[str, Any]:
        return {
            "sizes": self.sizes,
            "train_digits": self.train_digits,
            "test_digits": self.test_digits,
            "seed": self.seed,
        }

    def _splits(self) -> Splits:
        drawn: dict[str, dict[Cell, Factors]] = {
            split: {} for split in (*self.test_splits, "validation", "train")
        }
        for k, m in sorted({*_cells(self.train_digits), *_cells(self.test_digits)}):
            if k <= m:  # m x k has the same products as k x m
                for part, factors in self._draw(k, m).items():
                    split = self._regime((k, m)) if part == "test" else part
                    drawn[split] |= _ordered(k, m, factors, self.sizes[part])
        for split, cells in drawn.items():
            yield split, _examples(cells)

    def _regime(self, cell: Cell) -> str:
        return "interpolate" if cell in _cells(self.train_digits) else "extrapolate"

    def _draw(self, k: int, m: int) -> dict[str, Factors]:
        """Distinct products of k- and m-digit factors, by part; parts without these cells have
        none."""
        total = _count(k, m)
        orders = 1 if k == m else 2
        trained = (k, m) in _cells(self.train_digits)
        left, sizes = total, {}
        for part in ("test", "validation", "train"):
            if (k, m) in _cells(self.test_digits if part == "test" else self.train_digits):
                limit = total // _HELD_OUT if trained and part != "train" else left
                sizes[part] = min(orders * self.sizes[part], limit)
                left -= sizes[part]
        bits = bit_generator(self.seed, k, m)
        first, second = _factors(k, m, sample_distinct(bits, total, sum(sizes.values())))
        if k == m:
            first, second = _swap(first, second, bits.random_raw(len(first)) % 2 == 1)
        ends = np.cumsum(list(sizes.values()))[:-1]
        return dict(
            zip(sizes, zip(np.split(first, ends), np.split(second, ends), strict=True), strict=True)
        )


def _cells(digits: Cell) -> list[Cell]:
    lengths = range(digits[0], digits[1] + 1)
    return [(k, m) for k in lengths for m in lengths]


def _count(k: int, m: int) -> int:
    """The number of products of a k-digit and an m-digit factor, ignoring their order."""
    first, second = 9 * 10 ** (k - 1), 9 * 10 ** (m - 1)
    return first * (first + 1) // 2 if k == m else first * second


def _factors(k: int, m: int, number: Integers) -> Factors:
    """The factors of the products numbered 0..`_count`-1; the larger one first if k = m."""
    if k == m:  # row r of a triangle has the r + 1 pairs whose larger factor is the r-th
        row = ((np.sqrt(8.0 * number + 1) - 1) // 2).astype(np.int64)
        first, second = row, number - row * (row + 1) // 2
    else:
        first, second = np.divmod(number, 9 * 10 ** (m - 1))
    return first + 10 ** (k - 1), second + 10 ** (m - 1)


def _swap(first: Integers, second: Integers, where: NDArray[np.bool_]) -> Factors:
    return np.where(where, second, first), np.where(where, first, second)


def _ordered(k: int, m: int, factors: Factors, wanted: int) -> dict[Cell, Factors]:
    """The cells k x m and m x k, which share as few products as possible."""
    first, second = factors
    if k != m:
        return {
            (k, m): (first[:wanted], second[:wanted]),
            (m, k): (second[::-1][:wanted], first[::-1][:wanted]),
        }
    other = first != second
    both = np.concatenate([first, second[other]]), np.concatenate([second, first[other]])
    return {(k, k): (both[0][:wanted], both[1][:wanted])}


def _examples(cells: dict[Cell, Factors]) -> Iterator[Example]:
    for (k, m), (first, second) in sorted(cells.items(), key=lambda item: item[0]):
        products = (first * second).tolist()
        for a, b, product in zip(first.tolist(), second.tolist(), products, strict=True):
            yield Example(f"What is {a} * {b}?", str(product), f"{k}x{m}")
