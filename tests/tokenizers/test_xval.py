import math
import pickle
from decimal import Decimal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.data.numbers import NUMBER
from beyond_ce.errors import UsageError
from beyond_ce.tokenizers import Tokenizer, XValTokenizer

digits = st.text("0123456789", min_size=1, max_size=12)
decimals = st.builds(
    lambda sign, whole, fraction: f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}",
    st.sampled_from(["", "-", "+"]),
    digits,
    st.text("0123456789", max_size=12),
)


@pytest.fixture(scope="module")
def xval(questions) -> XValTokenizer:
    tokenizer = XValTokenizer(vocab_size=400)
    tokenizer.train(questions)
    return tokenizer


@given(number=decimals)
def test_any_decimal_comes_back_as_one_token(xval, number):
    """Up to 12 digits on either side, sign included: as written, so in value too."""
    ids, numbers = xval.split(number)
    assert ids == [xval.num_id]
    back = xval.decode(ids, numbers)
    assert back == number
    assert Decimal(back) == Decimal(number)


@given(number=decimals)
def test_the_models_number_is_the_nearest_float(xval, number):
    assert xval.token_numbers([number]) == [[float(number)]]
    significant = len(number.lstrip("+-0.").replace(".", ""))
    if significant <= 15:
        assert Decimal(f"{float(number):.15g}") == Decimal(number)


@given(text=st.text())
def test_any_text_comes_back(xval, text):
    ids, numbers = xval.split(text)
    assert xval.encode([text]) == [ids]
    assert xval.decode(ids, numbers) == text
    values = xval.token_numbers([text])[0]
    assert [math.isfinite(value) for value in values] == [i == xval.num_id for i in ids]
    assert len(numbers) == len(NUMBER.findall(text))


def test_the_numbers_of_a_question(xval):
    text = "What is -12.5 - (3 + 400)?"
    ids, numbers = xval.split(text)
    assert numbers == ["-12.5", "3", "400"]
    kept = [value for value in xval.token_numbers([text])[0] if not math.isnan(value)]
    assert kept == [-12.5, 3.0, 400.0]
    assert not any(set(xval.decode([i])) & set("0123456789") for i in ids)


def test_decoding_stops_at_the_end_and_marks_missing_numbers(xval):
    ids = [xval.num_id, xval.pad_id, 10**6, xval.num_id, xval.eos_id, xval.num_id]
    assert xval.decode(ids, ["7"]) == "7[NUM]"
    assert xval.decode([]) == ""


def test_numbers_beyond_floats_are_clipped(xval):
    assert xval.token_numbers(["-" + "9" * 400]) == [[-1.7976931348623157e308]]


def test_no_token_has_a_number_value(xval):
    assert xval.carries_numbers
    values = xval.number_values()
    assert values.shape == (xval.vocab_size,)
    assert torch.isnan(values).all()


def test_a_saved_or_pickled_tokenizer_comes_back(xval, tmp_path):
    xval.save(tmp_path)
    for copy in (Tokenizer.load(tmp_path), pickle.loads(pickle.dumps(xval))):
        assert copy.fingerprint() == xval.fingerprint()
        assert copy.vocab_size == xval.vocab_size == xval.num_id + 1
        assert copy.encode(["What is 3 + 4?"]) == xval.encode(["What is 3 + 4?"])


def test_bare_arithmetic_is_enough_to_learn_from():
    tokenizer = XValTokenizer(vocab_size=400)
    tokenizer.train(["12*34", "408"] * 50)
    assert tokenizer.decode(*tokenizer.split("12*34")) == "12*34"


def test_a_pretrained_vocabulary_is_refused():
    with pytest.raises(UsageError, match=r"tokenizer.model=t5.*null"):
        XValTokenizer(model="t5")
