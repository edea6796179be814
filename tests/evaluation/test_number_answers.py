import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.evaluation.number_answers import CLIP, last_number, magnitude, same_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", "42"),
        ("x = 3, y = -4.50", "-4.50"),
        ("The answer is +7.", "+7"),
        ("12-5", "5"),
        ("12 - 5", "5"),
        ("is -5", "-5"),
        ("--5", "-5"),
        (".5", ".5"),
        ("-.5", "-.5"),
        ("3.", "3"),
        ("1.2.3", ".3"),  # "1.2" and then ".3"
        ("007", "007"),
        ("5 apples", "5"),
        ("a1b2c", "2"),
        ("", None),
        ("no idea", None),
        ("-.", None),
        ("٣", None),
    ],
)
def test_the_last_number_of_a_text(text, number):
    assert last_number(text) == number


numbers = st.one_of(
    st.integers(),
    st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12)),
).map(lambda value: format(value, "f") if isinstance(value, Decimal) else str(value))


@given(number=numbers, words=st.text("abc :=,?\n", max_size=10), earlier=numbers)
def test_any_number_at_the_end_of_a_sentence_is_found(number, words, earlier):
    assert last_number(f"{earlier} {words} {number}") == number
    assert last_number(f"{earlier} {words} {number}. Done") == number


@given(number=numbers)
def test_spelling_does_not_matter_for_equality(number):
    unsigned = number.lstrip("-")
    sign = "-" if number.startswith("-") else "+"
    assert same_number(f"{sign}00{unsigned}", number)
    assert same_number(number if "." in number else f"{number}.00", number)
    assert not same_number(str(Decimal(number) + 1), number)


def test_equality_is_exact_beyond_the_precision_of_floats():
    assert not same_number(str(2**53), str(2**53 + 1))
    assert not same_number("9" * 400, "9" * 399 + "8")
    assert same_number("-0", "0")


def test_magnitudes_are_clipped():
    assert magnitude("-12.5") == -12.5
    assert magnitude("9" * 400) == CLIP == 1e10
    assert magnitude("-20000000000") == -CLIP
    assert math.isnan(magnitude(None))
