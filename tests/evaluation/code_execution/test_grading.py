from __future__ import annotations

import itertools
import math
import re
import sys
import time
import tracemalloc

import pytest

from beyond_ce.evaluation.code_execution import grading
from beyond_ce.evaluation.code_execution.grading import difference


@pytest.mark.parametrize(
    ("output", "expected", "tolerance"),
    [
        ("1 2\n3\n", "1\n2 3", None),
        ("", " \n", None),
        ("YES", "yes", None),
        ("1.0000001", "1", 1e-6),
        ("1000001", "1000000.0", 1e-6),
        ("-0.0", "0", 1e-9),
        ("1e3", "1000", 1e-9),
        ("a 0.5", "A .5", 1e-9),
        ("1e400", "1e400", 1e-9),
    ],
)
def test_right(output: str, expected: str, tolerance: float | None) -> None:
    assert difference(output, expected, tolerance) is None


@pytest.mark.parametrize(
    ("output", "expected", "tolerance", "reason"),
    [
        ("1 3", "1 2", None, "token 2 is '3' instead of '2'"),
        ("1", "1 2", None, "1 tokens instead of 2"),
        ("1 2 3", "1 2", None, "3 tokens instead of 2"),
        ("", "1", None, "0 tokens instead of 1"),
        ("1.0", "1", None, "token 1 is '1.0' instead of '1'"),
        ("1.1", "1", 1e-2, "token 1 is '1.1' instead of '1'"),
        ("nan", "1", 1e-2, "token 1 is 'nan' instead of '1'"),
        ("inf", "1e400", 1.0, "token 1 is 'inf' instead of '1e400'"),
        ("1e400", "1", 1.0, "token 1 is '1e400' instead of '1'"),
        ("1", "1e400", 1.0, "token 1 is '1' instead of '1e400'"),
        ("1_0", "10", 1e-2, "token 1 is '1_0' instead of '10'"),
        ("0", "1e-9", None, "token 1 is '0' instead of '1e-9'"),
    ],
)
def test_wrong(output: str, expected: str, tolerance: float | None, reason: str) -> None:
    assert difference(output, expected, tolerance) == reason


@pytest.mark.parametrize("text", ["{}x", "1.{}x", ".{}x", "1e{}x", "-{}.", "{}", "0.{}", "1e-{}"])
def test_a_long_token_takes_no_long_time(text: str) -> None:
    token = text.format("1" * 2**22)
    start = time.process_time()
    assert difference(token, "7", 1e-6) == f"token 1 is {token[:40]!r} instead of '7'"
    assert difference("7", token, 1e-6) is not None
    assert time.process_time() - start < 5


def test_many_tokens_take_no_long_time_and_little_memory() -> None:
    output = "\u2003ab\x1f" * 2**20
    start = time.process_time()
    tracemalloc.start()
    try:
        assert difference(output, "AB ab", 1e-6) == f"{2**20} tokens instead of 2"
        assert tracemalloc.get_traced_memory()[1] < 2 * sys.getsizeof(output)
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 30


@pytest.mark.parametrize("expected", ["1", "a"])
def test_numbers_are_what_contests_call_so(expected: str) -> None:
    """All short texts, by what the expression was before it had to be quick."""
    plain = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
    for length in range(1, 6):
        for token in map("".join, itertools.product("1.e+x", repeat=length)):
            number = plain.fullmatch(token) is not None
            assert bool(grading._NUMBER.fullmatch(token)) == number
            assert (difference(token, expected, math.inf) is None) == (
                number and expected == "1" and math.isfinite(float(token))
            )


def test_an_absolute_tolerance_leaves_whole_numbers_no_choice() -> None:
    assert difference("100001", "100000", 1e-5) is None
    assert difference("100001", "100000", 1e-5, relative=False) is not None
    assert difference("1000000006", "1000000007", 1e-5, relative=False) is not None
    assert difference("100000.000001", "100000", 1e-5, relative=False) is None
    assert difference("0.500001", "0.5", 1e-5, relative=False) is None
