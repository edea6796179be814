"""Questions made from one expression, such as a * b + c, whose operands have a given length."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from beyond_ce.data.base import PromptAnswerData
from beyond_ce.data.cache import Splits
from beyond_ce.data.example import Example
from beyond_ce.data.sampling import Integers, bit_generator, divide, sample_distinct
from beyond_ce.errors import UsageError
from beyond_ce.settings import COUNT, PATH, SEED, TEXT, takes, whole

_OPERATORS = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply}
_MOST_DIGITS = 6
_MOST_OPERANDS = 3  # 3 operands of 6 digits: products below 2**63, combinations too


class Expressions(PromptAnswerData):
    """`What is 123 * 456 + 789?` -> `56877`, for the expression "a * b + c" and three digits.

    Operands are uniform among the positive integers of their length. No two questions have the same
    operands, in whatever order, so that no question for testing is in training with its operands
    swapped. Of few combinations testing and validation take at most a tenth each, and training the
    rest. The splits: "test", "validation" and "train".

    Args:
        expression: of two or three operands, each a letter that occurs once, with +, -, * and
            brackets.
        digits: of every operand.
        train_size, validation_size, test_size: questions of each split.
        seed: seed of the draw; independent of the run's.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.

    Raises:
        UsageError: `expression` is none of these.
    """

    name = "expressions"
    test_splits = ("test",)

    @takes(
        "dataset",
        expression=TEXT,
        digits=whole(1, _MOST_DIGITS),
        train_size=COUNT,
        validation_size=COUNT,
        test_size=COUNT,
        seed=SEED,
        cache_dir=PATH,
    )
    def __init__(
        self,
        *,
        expression: str,
        digits: int,
        train_size: int,
        validation_size: int,
        test_size: int,
        seed: int,
        cache_dir: str | Path,
    ) -> None:
        self.expression = expression
        self.tree, self.operands = _parsed(expression)
        self.digits = digits
        self.sizes = {"test": test_size, "validation": validation_size, "train": train_size}
        self.seed = seed
        self.cache_dir = Path(cache_dir)

    def _definition(self) -> dict[str, Any]:
        return {
            "expression": self.expression,
            "digits": self.digits,
            "sizes": self.sizes,
            "seed": self.seed,
        }

    def _splits(self) -> Splits:
        rows = self._rows(sum(self.sizes.values()))
        template = re.sub("[a-z]", "{}", self.expression)
        for split, part in divide(rows, self.sizes):
            yield split, self._examples(part, template)

    def _rows(self, wanted: int) -> Integers:
        """Operands [questions, operands], no two rows alike after sorting; fewer than `wanted` if
        there are fewer."""
        least = 10 ** (self.digits - 1)
        values, operands = 9 * least, len(self.operands)
        bits = bit_generator(self.seed, self.digits, operands)
        # Sorted, at most a factor of 3! falls away, and few rows do where there are many to choose.
        drawn = sample_distinct(bits, values**operands, 8 * wanted)
        rows = np.stack(np.unravel_index(drawn, (values,) * operands), axis=1) + least
        first = np.unique(np.sort(rows, axis=1), axis=0, return_index=True)[1]
        return rows[np.sort(first)][:wanted]

    def _examples(self, rows: Integers, template: str) -> Iterator[Example]:
        values = dict(zip(self.operands, rows.T, strict=True))
        for operands, answer in zip(rows.tolist(), _value(self.tree, values), strict=True):
            yield Example(f"What is {template.format(*operands)}?", str(answer), self.expression)


def _parsed(expression: str) -> tuple[ast.expr, str]:
    """The expression's tree, and its operands in the order in which they are written."""
    wrong = UsageError(
        f"dataset.expression={expression}: give two or three letters a to z, each once, with +, - "
        "and *, such as a * b + c"
    )
    try:
        tree = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise wrong from error
    operands = re.sub("[^a-z]", "", expression)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.expr)]
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    known = all(
        isinstance(node, ast.Name) or (isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS)
        for node in nodes
    )
    once = sorted(names) == sorted(set(operands)) and len(operands) == len(names)
    if not (known and once and 2 <= len(names) <= _MOST_OPERANDS):
        raise wrong
    return tree, operands


def _value(node: ast.expr, values: dict[str, Integers]) -> Integers:
    if isinstance(node, ast.Name):
        return values[node.id]
    assert isinstance(node, ast.BinOp)
    return _OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
