from __future__ import annotations

import pytest

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
        ("1_0", "10", 1e-2, "token 1 is '1_0' instead of '10'"),
        ("0", "1e-9", None, "token 1 is '0' instead of '1e-9'"),
    ],
)
def test_wrong(output: str, expected: str, tolerance: float | None, reason: str) -> None:
    assert difference(output, expected, tolerance) == reason


def test_an_absolute_tolerance_leaves_whole_numbers_no_choice() -> None:
    assert difference("100001", "100000", 1e-5) is None
    assert difference("100001", "100000", 1e-5, relative=False) is not None
    assert difference("1000000006", "1000000007", 1e-5, relative=False) is not None
    assert difference("100000.000001", "100000", 1e-5, relative=False) is None
    assert difference("0.500001", "0.5", 1e-5, relative=False) is None
