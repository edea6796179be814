"""Polynomial arithmetic, the data of the MTP paper's section 4.2 (figures 8, S15 and S16)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beyond_ce.data.base import EndlessData
from beyond_ce.data.cache import Splits
from beyond_ce.data.example import Example
from beyond_ce.data.polynomial_ring import Ring, draw_expressions
from beyond_ce.data.sampling import Integers, bit_generator, integers_below
from beyond_ce.errors import UsageError
from beyond_ce.settings import COUNT, PATH, SEED, span, takes, whole

_PRIMES = (2, 3, 5, 7)
_MOST_TERMS = 16
_OPERATIONS = span(1, 16)
_HELD_OUT = {"test": 0, "validation": 1}
"""Split -> the remainder of its expressions' digests; those of training have another one."""
_SHARE = 10  # testing and validation each take one expression in ten
_TRAIN = 2
_ROUNDS = 4


def _prime(value: Any) -> str | None:
    """A prime of one digit, so that every coefficient is a character."""
    fits = type(value) is int and value in _PRIMES
    return None if fits else f"give one of {', '.join(map(str, _PRIMES))}"


class Polynomials(EndlessData):
    """`(12034+(00511*-60210))=` -> `12542`: the value of an expression in F_p[X]/(X^k).

    A polynomial is its k coefficients, that of X^0 first. The operators are negation (-), sum (+),
    product (*) and composition (@); `polynomial_ring` says how expressions are drawn and written.
    All is one character a token with tokenizer=byte. Pause tokens are "_" in front of the "=".

    Training never ends, and its rows are new draws (see `EndlessData`). Each number of operations
    in `operations` is equally frequent. Which expressions are for testing and which for validation
    is decided by a digest of their text, a tenth for each, whatever the seed: none of them is ever
    in training. Of those, "validation" and "test" have a fixed number of different ones for each
    number of operations, or all of the few that there are.

    The task is "in_domain/m=3", with the number of operations, and "out_of_domain/m=6" if training
    has no such expressions.

    Args:
        p: a prime of one digit.
        k: coefficients of a polynomial.
        operations: minimum and maximum number of operations in training and validation.
        test_operations: the same for the test split.
        validation_size: expressions of each number of operations.
        test_size: expressions of each number of operations.
        pause_tokens: between the expression and the "=".
        seed: seed of the draw; with the run's own seed, it determines the training rows.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
    """

    name = "polynomials"
    test_splits = ("test",)

    @takes(
        "dataset",
        p=_prime,
        k=whole(1, _MOST_TERMS),
        operations=_OPERATIONS,
        test_operations=_OPERATIONS,
        validation_size=COUNT,
        test_size=COUNT,
        pause_tokens=whole(0, 1000),
        seed=SEED,
        cache_dir=PATH,
    )
    def __init__(
        self,
        *,
        p: int,
        k: int,
        operations: Sequence[int],
        test_operations: Sequence[int],
        validation_size: int,
        test_size: int,
        pause_tokens: int,
        seed: int,
        cache_dir: str | Path,
    ) -> None:
        self.ring = Ring(p, k)
        self.operations = range(operations[0], operations[1] + 1)
        self.test_operations = range(test_operations[0], test_operations[1] + 1)
        self.validation_size = validation_size
        self.test_size = test_size
        self.pause_tokens = pause_tokens
        self.seed = seed
        self.cache_dir = Path(cache_dir)

    def _definition(self) -> dict[str, Any]:
        return {
            "p": self.ring.p,
            "k": self.ring.k,
            "operations": list(self.operations),
            "test_operations": list(self.test_operations),
            "validation_size": self.validation_size,
            "test_size": self.test_size,
            "pause_tokens": self.pause_tokens,
            "seed": self.seed,
        }

    def block(self, stream: int, number: int) -> list[Example]:
        bits = bit_generator(self.seed, _TRAIN, stream, number)
        rows: list[Example] = []
        while len(rows) < self.block_size:
            # Four in five are of training; few rounds need a second one.
            drawn = integers_below(bits, len(self.operations), self.block_size * 13 // 10)
            rows += self._drawn(bits, drawn + self.operations[0], None)
        return rows[: self.block_size]

    def _splits(self) -> Splits:
        yield "test", self._held_out("test", self.test_operations, self.test_size)
        yield "validation", self._held_out("validation", self.operations, self.validation_size)
        yield "train", self.block(0, 0)

    def _held_out(self, split: str, operations: range, wanted: int) -> Iterator[Example]:
        """Different expressions of a split, `wanted` of each number of operations."""
        for each in operations:
            bits = bit_generator(self.seed, _HELD_OUT[split], each)
            found: dict[str, Example] = {}
            for _ in range(_ROUNDS):  # if so many bring too few, there are not many more
                drawn = np.full(_SHARE * wanted, each, dtype=np.int64)
                rows = self._drawn(bits, drawn, _HELD_OUT[split])
                found |= {row.prompt: row for row in rows}
                if len(found) >= wanted:
                    break
            if not found:
                raise UsageError(
                    f"dataset polynomials: of the expressions with {each} operations there are too "
                    f"few to hold some out as '{split}': raise dataset.p or dataset.k"
                )
            yield from list(found.values())[:wanted]

    def _drawn(
        self, bits: np.random.PCG64, operations: Integers, remainder: int | None
    ) -> list[Example]:
        """Random expressions; only those of one split.

        Args:
            operations: of each, [N].
            remainder: of the split, see `_HELD_OUT`; None for training.
        """
        texts, values = draw_expressions(bits, operations, self.ring)
        answers = (values + ord("0")).astype(np.uint8).tobytes().decode("ascii")
        end, width = "_" * self.pause_tokens + "=", self.ring.k
        tasks = {m: self._task(m) for m in np.unique(operations).tolist()}
        return [
            Example(text + end, answers[i * width : (i + 1) * width], tasks[m])
            for i, (text, m) in enumerate(zip(texts, operations.tolist(), strict=True))
            if _split_of(text) == remainder
        ]

    def _task(self, operations: int) -> str:
        domain = "in_domain" if operations in self.operations else "out_of_domain"
        return f"{domain}/m={operations}"


def _split_of(text: str) -> int | None:
    """The value of `_HELD_OUT` for an expression, None for training."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    remainder = int.from_bytes(digest, "big") % _SHARE
    return remainder if remainder < len(_HELD_OUT) else None
