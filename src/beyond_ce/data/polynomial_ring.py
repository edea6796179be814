"""Arithmetic with many polynomials at once, and random expressions of it with their values.

A polynomial is a row of k coefficients in 0..p-1, that of X^0 first: [N, k] is N polynomials of the
ring F_p[X]/(X^k).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beyond_ce.data.sampling import Integers, integers_below

_LEAF, _NEGATION = -1, 0
OPERATORS = "-+*@"
"""Negation of one operand, then sum, product and composition of two."""


@dataclass(frozen=True)
class Ring:
    """F_p[X]/(X^k), the polynomials of degree below k with coefficients modulo p.

    Attributes:
        p: a prime.
        k: coefficients of a polynomial.
    """

    p: int
    k: int

    def negate(self, a: Integers) -> Integers:
        return -a % self.p

    def add(self, a: Integers, b: Integers) -> Integers:
        return (a + b) % self.p

    def multiply(self, a: Integers, b: Integers) -> Integers:
        """The product without its powers from X^k on."""
        product = np.zeros_like(a)
        for i in range(self.k):
            product[:, i:] += a[:, i : i + 1] * b[:, : self.k - i]
        return product % self.p

    def compose(self, a: Integers, b: Integers) -> Integers:
        """a(b(X)) without its powers from X^k on, by Horner's rule.

        NOTE: the MTP paper does not say what composition is in this ring, where X^k = 0 but
        b(X)^k need not be. We compose the polynomials of degree below k, so that composing is
        associative only if the innermost polynomial has no constant term.
        """
        value = np.zeros_like(a)
        for i in reversed(range(self.k)):
            value = self.multiply(value, b)
            value[:, 0] = (value[:, 0] + a[:, i]) % self.p
        return value

    def apply(self, operator: str, a: Integers, b: Integers) -> Integers:
        """The value of one of `OPERATORS`; negation ignores `b`."""
        if operator == "-":
            return self.negate(a)
        if operator == "+":
            return self.add(a, b)
        return self.multiply(a, b) if operator == "*" else self.compose(a, b)


def draw_expressions(
    bits: np.random.PCG64, operations: Integers, ring: Ring
) -> tuple[list[str], Integers]:
    """Random expressions as text, and their values [N, k].

    Each operator is one of `OPERATORS` with equal probability, and each coefficient uniform. An
    operand is written as its coefficients, a negation as "-a", and everything else in brackets:
    "(-1203+(0012*2100))". So every expression has one reading, and it ends where its brackets do.

    NOTE: the MTP paper does not say how its trees are drawn. Here they grow from the root: the left
    operand of an operator has any number of the remaining operations with equal probability.

    Args:
        operations: of each expression, [N].
    """
    trees = _grow(bits, operations)
    values = np.zeros((len(trees.operator), ring.k), dtype=np.int64)
    leaves = np.flatnonzero(trees.operator == _LEAF)
    values[leaves] = integers_below(bits, ring.p, (len(leaves), ring.k))
    lengths = np.full(len(trees.operator), ring.k)
    for nodes in trees.levels:
        left, right = trees.left[nodes], trees.right[nodes]
        lengths[nodes] = lengths[left] + 1
        binary = trees.operator[nodes] != _NEGATION
        lengths[nodes[binary]] += lengths[right[binary]] + 2
        for number, operator in enumerate(OPERATORS):
            own = trees.operator[nodes] == number
            values[nodes[own]] = ring.apply(operator, values[left[own]], values[right[own]])
    text = _write(trees, lengths, values[leaves], leaves, len(operations))
    ends = np.cumsum(lengths[: len(operations)]).tolist()
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)], values[: len(operations)]


@dataclass(frozen=True)
class _Trees:
    """Expressions as nodes; the first ones are their roots.

    Attributes:
        operator: of each node, a place in `OPERATORS` or `_LEAF`.
        left, right: the nodes of its operands; the left one is a negation's only one.
        levels: nodes with 1, 2, ... operations.
    """

    operator: Integers
    left: Integers
    right: Integers
    levels: list[Integers]


def _grow(bits: np.random.PCG64, operations: Integers) -> _Trees:
    made, most = len(operations), int((2 * operations + 1).sum())
    size, left, right = (np.zeros(most, dtype=np.int64) for _ in range(3))
    operator = np.full(most, _LEAF)
    size[:made] = operations
    levels = []
    for operations_left in range(int(operations.max(initial=0)), 0, -1):
        nodes = np.flatnonzero(size[:made] == operations_left)
        operator[nodes] = integers_below(bits, len(OPERATORS), len(nodes))
        unary = operator[nodes] == _NEGATION
        in_left = integers_below(bits, operations_left, len(nodes))
        left[nodes] = np.arange(made, made + len(nodes))
        size[left[nodes]] = np.where(unary, operations_left - 1, in_left)
        made += len(nodes)
        binary = nodes[~unary]
        right[binary] = np.arange(made, made + len(binary))
        size[right[binary]] = operations_left - 1 - in_left[~unary]
        made += len(binary)
        levels.append(nodes)
    return _Trees(operator[:made], left[:made], right[:made], levels[::-1])


def _write(
    trees: _Trees, lengths: Integers, coefficients: Integers, leaves: Integers, roots: int
) -> str:
    """The texts of all expressions, one after the other.

    Args:
        lengths: of each node's text.
        coefficients: of the leaves, [leaves, k].
    """
    start = np.zeros_like(lengths)
    start[1:roots] = np.cumsum(lengths[: roots - 1])
    text = np.empty(int(lengths[:roots].sum()), dtype=np.uint8)
    symbols = np.frombuffer(OPERATORS.encode(), dtype=np.uint8)
    for nodes in reversed(trees.levels):
        at, left = start[nodes], trees.left[nodes]
        start[left] = at + 1
        binary = trees.operator[nodes] != _NEGATION
        text[at] = np.where(binary, ord("("), ord(OPERATORS[_NEGATION]))
        middle = at[binary] + 1 + lengths[left[binary]]
        text[middle] = symbols[trees.operator[nodes[binary]]]
        start[trees.right[nodes[binary]]] = middle + 1
        text[at[binary] + lengths[nodes[binary]] - 1] = ord(")")
    places = start[leaves][:, None] + np.arange(coefficients.shape[1])
    text[places] = coefficients + ord("0")
    return text.tobytes().decode("ascii")
