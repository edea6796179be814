import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.data.numbers import (
    CLIP,
    NUMBER,
    exp_scale,
    last_number,
    log_scale,
    magnitude,
    number_value,
    plain,
    same_number,
)


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
        ("it costs $18", "18"),
        ("-$18", "-18"),
        ("$-1.50", "-1.50"),
        (r"-\$18", "-18"),
        ("12-$5", "5"),
        (r"\boxed{18}", "18"),
        ("\u22125", "-5"),
        ("12\u22125", "5"),
        ("\uff0d.5", "-.5"),
    ],
)
def test_the_last_number_of_a_text(text, number):
    assert last_number(text) == number


@given(text=st.text("0123456789+-.,= ax#", max_size=30) | st.text(max_size=30))
def test_other_texts_are_read_as_before(text):
    if not set(text) & set("$€£¥\u2212\ufe63\uff0d"):
        assert last_number(text) == (NUMBER.findall(text) or [None])[-1]


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


def test_values_are_finite_floats():
    assert number_value("-12.5") == -12.5
    assert number_value("-" + "9" * 400) == -1.7976931348623157e308
    assert math.isnan(number_value(None))


def test_the_log_scale_by_hand():
    assert log_scale(0.0) == 0.0
    assert log_scale(-(math.e - 1)) == pytest.approx(-1)
    assert math.isnan(log_scale(math.nan))
    assert exp_scale(-1.0) == pytest.approx(1 - math.e)
    assert exp_scale(-1e6) == -1.7976931348623157e308


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(value=finite)
def test_the_log_scale_has_an_inverse(value):
    assert exp_scale(log_scale(value)) == pytest.approx(value, rel=1e-12, abs=1e-300)


@given(value=finite)
def test_a_printed_float_reads_back(value):
    text = plain(value)
    assert float(text) == value
    assert last_number(text) == text


@pytest.mark.parametrize(
    ("value", "text"), [(12.0, "12"), (0.1, "0.1"), (-1e-7, "-0.0000001"), (1e20, "1" + "0" * 20)]
)
def test_plain_by_hand(value, text):
    assert plain(value) == text


def test_what_is_no_number_reads_as_none():
    assert last_number(plain(math.nan)) is None
    assert last_number(plain(math.inf)) is None
