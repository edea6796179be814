"""Signed sums of uniform terms: arithmetic whose difficulty is set term by term."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beyond_ce.data.base import PromptAnswerData
from beyond_ce.data.cache import Splits
from beyond_ce.data.example import Example
from beyond_ce.data.sampling import Integers, bit_generator, sample_distinct
from beyond_ce.errors import UsageError
from beyond_ce.settings import COUNT, FLAG, PATH, SEED, optional, span, takes, whole

_MOST_TERMS = 8
_LARGEST = 10**6
_HELD_OUT = 10  # testing and validation each take at most one question in ten

_TERMS = span(2, _MOST_TERMS)
_VALUE = whole(1, _LARGEST)

Shape = tuple["Shape", "Shape"] | tuple[()]
"""How a sum is bracketed: its left and right operand, () for a single term."""


class Sums(PromptAnswerData):
    """`What is -5 + (12 - 2) - -1?` -> `6`, with the number of terms, "4_terms", as the task.

    Terms are uniform in [-largest, largest], operators are + or - with equal probability, and with
    `brackets` all ways of bracketing are equally likely (an operand on the right that is itself a
    sum is written in brackets, so half of the questions with three terms have some). The terms are
    drawn, not the answer: DeepMind's generator (`Arithmetic`) draws a small answer first and then
    lets large terms cancel.

    Every number of terms has the same number of examples. Of few questions, testing and validation
    take at most a tenth each, and training the rest. No question occurs twice. The splits:
    "interpolate" has held-out questions like those of training, "extrapolate" longer questions,
    larger terms, or both (left out if neither is asked for); "validation" and "train".

    Args:
        train_per_length: training questions of each number of terms.
        validation_per_length: validation questions of each number of terms.
        test_per_length: questions of each number of terms in each test split.
        terms: minimum and maximum number of terms.
        largest: largest absolute value of a term.
        brackets: whether questions may have brackets.
        extrapolate_terms: minimum and maximum number of terms to extrapolate to; null: as `terms`.
        extrapolate_largest: if given, absolute values of terms in "extrapolate" are in
            [largest + 1, extrapolate_largest] instead.
        seed: seed of the draw; independent of the run's.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.

    Raises:
        UsageError: "extrapolate" would have questions like those of training.
    """

    name = "sums"

    @takes(
        "dataset",
        train_per_length=COUNT,
        validation_per_length=COUNT,
        test_per_length=COUNT,
        terms=_TERMS,
        largest=_VALUE,
        brackets=FLAG,
        extrapolate_terms=optional(_TERMS),
        extrapolate_largest=optional(_VALUE),
        seed=SEED,
        cache_dir=PATH,
    )
    def __init__(
        self,
        *,
        train_per_length: int,
        validation_per_length: int,
        test_per_length: int,
        terms: Sequence[int],
        largest: int,
        brackets: bool,
        extrapolate_terms: Sequence[int] | None,
        extrapolate_largest: int | None,
        seed: int,
        cache_dir: str | Path,
    ) -> None:
        self.sizes = {
            "interpolate": test_per_length,
            "validation": validation_per_length,
            "train": train_per_length,
        }
        self.lengths = range(terms[0], terms[1] + 1)
        self.largest = largest
        self.brackets = brackets
        least, most = extrapolate_terms or terms
        self.longer = range(least, most + 1)
        self.larger = extrapolate_largest
        self.extrapolates = extrapolate_terms is not None or extrapolate_largest is not None
        self.seed = seed
        self.cache_dir = Path(cache_dir)
        self.test_splits = ("interpolate", *["extrapolate"] * self.extrapolates)
        if self.larger is not None and self.larger <= largest:
            raise UsageError(
                f"dataset.extrapolate_largest={self.larger}: give more than dataset.largest, "
                f"{largest}, or null"
            )
        common = set(self.lengths) & set(self.longer)
        if self.extrapolates and self.larger is None and common:
            raise UsageError(
                f"dataset.extrapolate_terms has {min(common)} terms, as training has: give other "
                "numbers of terms, or larger terms with dataset.extrapolate_largest"
            )

    def _definition(self) -> dict[str, Any]:
        return {
            "sizes": self.sizes,
            "terms": list(self.lengths),
            "largest": self.largest,
            "brackets": self.brackets,
            "extrapolate_terms": list(self.longer) if self.extrapolates else None,
            "extrapolate_largest": self.larger,
            "seed": self.seed,
        }

    def _splits(self) -> Splits:
        values = np.arange(-self.largest, self.largest + 1)
        beyond = values
        if self.larger is not None:
            magnitudes = np.arange(self.largest + 1, self.larger + 1)
            beyond = np.concatenate([-magnitudes[::-1], magnitudes])
        trained = {n: self._draw(n, len(values)) for n in self.lengths}
        for split in self.sizes:
            yield split, self._examples({n: parts[split] for n, parts in trained.items()}, values)
        if self.extrapolates:
            size = self.sizes["interpolate"]
            drawn = {n: self._rows(n, len(beyond), size, 1) for n in self.longer}
            yield "extrapolate", self._examples(drawn, beyond)

    def _draw(self, length: int, values: int) -> dict[str, Integers]:
        """Distinct questions with `length` terms, as the rows of `_rows`, by split."""
        left = total = math.prod(self._radices(length, values))
        sizes = {}
        for split, wanted in self.sizes.items():
            sizes[split] = min(wanted, left if split == "train" else total // _HELD_OUT)
            left -= sizes[split]
        rows = self._rows(length, values, sum(sizes.values()), 0)
        parts = np.split(rows, np.cumsum(list(sizes.values()))[:-1])
        return dict(zip(sizes, parts, strict=True))

    def _radices(self, length: int, values: int) -> list[int]:
        """How many choices a question with `length` terms has: the way of bracketing, then for
        each operator, then for each term."""
        return [len(self._shapes(length)), *[2] * (length - 1), *[values] * length]

    def _shapes(self, length: int) -> list[Shape]:
        shapes = _shapes(length)
        return shapes if self.brackets else shapes[-1:]  # the last one has no brackets

    def _rows(self, length: int, values: int, wanted: int, stream: int) -> Integers:
        """`wanted` distinct questions in random order, fewer if there are fewer: choices of
        `_radices`, [questions, choices]."""
        bits = bit_generator(self.seed, length, stream)
        radices = self._radices(length, values)
        total = math.prod(radices)
        if total <= 2 * wanted:
            numbers = sample_distinct(bits, total, min(wanted, total))
            return np.stack(np.unravel_index(numbers, radices), axis=1)
        rows: Integers = np.empty((0, len(radices)), dtype=np.int64)
        while len(rows) < wanted:
            raw = bits.random_raw(wanted * len(radices)).reshape(wanted, -1)
            more = (raw % np.array(radices, dtype=np.uint64)).astype(np.int64)
            rows = np.concatenate([rows, more])
            rows = rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])]
        return rows[:wanted]

    def _examples(self, drawn: dict[int, Integers], values: Integers) -> Iterator[Example]:
        for length, rows in sorted(drawn.items(), key=lambda item: item[0]):
            shapes = self._shapes(length)
            which, signs, terms = rows[:, 0], 1 - 2 * rows[:, 1:length], values[rows[:, length:]]
            answers = np.empty(len(rows), dtype=np.int64)
            for number, shape in enumerate(shapes):
                own = which == number
                answers[own] = _value(shape, iter(terms[own].T), iter(signs[own].T))
            templates = [_template(shape) for shape in shapes]
            columns = np.empty((len(rows), 2 * length - 1), dtype=object)
            columns[:, ::2] = terms
            columns[:, 1::2] = np.where(signs > 0, "+", "-")
            for number, parts, answer in zip(which, columns.tolist(), answers, strict=True):
                question = templates[number].format(*parts)
                yield Example(f"What is {question}?", str(answer), f"{length}_terms")


def _shapes(length: int) -> list[Shape]:
    """All ways of bracketing a sum of `length` terms; the last one goes from left to right."""
    if length == 1:
        return [()]
    return [
        (left, right)
        for size in range(1, length)
        for left in _shapes(size)
        for right in _shapes(length - size)
    ]


def _template(shape: Shape) -> str:
    """The sum's text with {} for every term and operator."""
    if not shape:
        return "{}"
    left, right = shape
    return f"{_template(left)} {{}} " + (f"({_template(right)})" if right else "{}")


def _value(shape: Shape, terms: Iterator[Integers], signs: Iterator[Integers]) -> Integers:
    """The values of sums [questions], from the columns of their terms and signs, left to right."""
    if not shape:
        return next(terms)
    left = _value(shape[0], terms, signs)
    sign = next(signs)
    return left + sign * _value(shape[1], terms, signs)
