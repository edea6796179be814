import pickle

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beyond_ce.errors import UsageError
from beyond_ce.tokenizers import DigitTokenizer, RegressionTransformerTokenizer, Tokenizer

decimals = st.from_regex(r"[+-]?([0-9]{1,12}(\.[0-9]{0,12})?|\.[0-9]{1,12})", fullmatch=True)
long_numbers = st.from_regex(r"-?[0-9]{0,20}\.?[0-9]{0,20}", fullmatch=True)
mixed = st.lists(
    decimals
    | long_numbers
    | st.sampled_from([" ", "What is ", "(", ")", "-", "+", " - ", ".", "...", " x", "?", ", "]),
    max_size=8,
).map("".join)
awkward = ["-0", "+5", "1.50", "007", ".5", "-.5", "5.", "0.0", "00.00", "1.2.3", "3-2", "--5"]


@pytest.fixture(scope="module")
def own(questions):
    trained = RegressionTransformerTokenizer(vocab_size=600)
    trained.train(questions)
    return trained


@pytest.fixture(scope="module")
def t5(t5_model):
    return RegressionTransformerTokenizer(model=str(t5_model))


@pytest.fixture(scope="module", params=["own", "t5"])
def tokenizer(request):
    """One trained on the questions and one with T5's pieces."""
    return request.getfixturevalue(request.param)


def place_token(tokenizer, digit: int, place: int) -> int:
    """The id of `_d_p_`, from the layout: ten digits at place -max_places, ten at the next, ..."""
    first = tokenizer.vocab_size - 20 * tokenizer.max_places
    return first + 10 * (place + tokenizer.max_places) + digit


def names(tokenizer, text: str) -> list[str]:
    """The tokens of a text as the paper writes them."""
    known = {
        place_token(tokenizer, digit, place): f"_{digit}_{place}_"
        for digit in range(10)
        for place in range(-tokenizer.max_places, tokenizer.max_places)
    }
    return [
        known[i] if i in known else tokenizer._pieces.id_to_piece(i)
        for i in tokenizer.encode([text])[0]
    ]


def round_trip(tokenizer, text: str) -> str:
    return tokenizer.decode(tokenizer.encode([text])[0])


@settings(max_examples=300, deadline=None)
@given(number=decimals)
def test_every_decimal_comes_back_exactly(tokenizer, number):
    assert round_trip(tokenizer, number) == number
    ids = tokenizer.encode([number])[0]
    digits = [c for c in number if c.isdigit()]
    values = tokenizer.number_values()[ids]
    assert values[~values.isnan()].tolist() == [float(d) for d in digits]
    first = place_token(tokenizer, 0, -tokenizer.max_places)
    assert sum(i >= first for i in ids) == len(digits)


@settings(max_examples=300, deadline=None)
@given(text=st.text() | mixed)
@example("".join(f" {number} {number}," for number in awkward))
def test_any_text_comes_back_exactly(own, text):
    assert round_trip(own, text) == text


@settings(deadline=None)
@given(numbers=st.lists(decimals | long_numbers.filter(bool), min_size=1, max_size=4))
@example(awkward)
def test_t5_texts_of_numbers_come_back_exactly(t5, numbers):
    text = "What is " + " - (".join(numbers) + ")?"
    assert round_trip(t5, text) == text


@settings(deadline=None)
@given(text=decimals)
def test_places_and_signs_make_up_the_number(tokenizer, text):
    sign, total = 1, 0
    for name in names(tokenizer, text):
        sign = -1 if name == "-" else sign
        if name.startswith("_"):
            _, digit, place, _ = name.split("_")
            total += int(digit) * 10 ** (int(place) + 12)
    whole, _, fraction = text.lstrip("+-").partition(".")
    assert sign * total == (-1 if text[0] == "-" else 1) * int(
        f"{whole}{fraction:0<12}"  # in units of 10^-12
    )


def test_tokens_are_those_of_the_paper(own):
    assert names(own, "-13.05") == ["-", "_1_1_", "_3_0_", ".", "_0_-1_", "_5_-2_"]
    assert names(own, "+007") == ["+", "_0_2_", "_0_1_", "_7_0_"]
    assert names(own, ".5") == [".", "_5_-1_"]
    assert names(own, "1/234.") == ["_1_0_", "/", "_2_2_", "_3_1_", "_4_0_", "."]
    assert names(own, "1.2.3") == ["_1_0_", ".", "_2_-1_", ".", "_3_-1_"]


def test_t5_signs_and_points_are_tokens_of_their_own(t5):
    assert names(t5, "-13.5") == ["▁", "-", "_1_1_", "_3_0_", ".", "_5_-1_"]
    for text in ("What is 3 - (-4.5 + 2)?", "Calculate -7 + -.5.", "1 +2"):
        for name in names(t5, text):
            assert len(name) == 1 or name.startswith("_") or not set(name) & set("0123456789")
    assert names(t5, "3 - (-4)")[-4:-2] == ["(", "-"]


def test_text_without_numbers_is_encoded_as_by_the_digit_tokenizer(t5, t5_model):
    digit = DigitTokenizer(model=str(t5_model))
    for text in ("What is the - (of) May?", "- + ...", "Calculate."):
        assert t5.encode([text]) == digit.encode([text])


def test_digits_beyond_the_places_stay_plain(questions):
    tokenizer = RegressionTransformerTokenizer(vocab_size=600, max_places=2)
    tokenizer.train(questions)
    assert names(tokenizer, "123.456") == ["1", "_2_1_", "_3_0_", ".", "_4_-1_", "_5_-2_", "6"]
    assert round_trip(tokenizer, "123.456") == "123.456"


def test_places_follow_all_other_tokens(t5, own):
    assert t5.vocab_size == 500 + 100 + 240  # pieces, T5's sentinels, 10 x 24
    assert names(t5, "0.000000000001")[-1] == "_1_-12_"
    assert t5.encode(["0.000000000000"])[0][-1] == 600
    assert t5.encode(["9" * 12])[0][1] == 839
    assert own.vocab_size == own._pieces.vocab_size() + 240


def test_decoding_writes_digits_in_the_order_they_come(tokenizer):
    ids = [place_token(tokenizer, 3, 5), place_token(tokenizer, 2, 1), place_token(tokenizer, 7, 4)]
    assert tokenizer.decode(ids) == "327"
    assert tokenizer.decode(torch.tensor([*ids, tokenizer.eos_id, *ids])) == "327"
    assert tokenizer.decode([tokenizer.vocab_size, *ids, tokenizer.pad_id, -100]) == "327"


@settings(deadline=None)
@given(data=st.data())
def test_any_ids_decode(tokenizer, data):
    ids = data.draw(st.lists(st.integers(-1, tokenizer.vocab_size + 5)))
    assert isinstance(tokenizer.decode(ids), str)


def test_number_values_are_the_digits_whatever_their_places(tokenizer):
    values = tokenizer.number_values()
    assert values.shape == (tokenizer.vocab_size,)
    assert values[-240:].tolist() == list(range(10)) * 24
    assert values[:-240].isnan().sum() == tokenizer.vocab_size - 240 - 10


def test_encodings_by_hand(own):
    own_scale = RegressionTransformerTokenizer(vocab_size=600, log_scale=False)
    own_scale._set_model(own._pieces.serialized_model_proto())
    table = own_scale.number_encodings(4)
    assert table.shape == (own.vocab_size, 4)
    assert table.dtype == torch.float32
    for digit, place, expected in [
        (3, 1, [30, -15, 10, -7.5]),
        (8, -1, [0.8, -0.4, 0.8 / 3, -0.2]),
        (6, 0, [6, -3, 2, -1.5]),
        (9, 11, [9e11, -4.5e11, 3e11, -2.25e11]),
        (0, 5, [0, 0, 0, 0]),
    ]:
        torch.testing.assert_close(
            table[place_token(own, digit, place)], torch.tensor(expected).float(), rtol=1e-6, atol=0
        )
    assert not table[:-240].any()


def test_log_scaled_encodings_by_hand(own):
    table = own.number_encodings(3)
    for digit, place, log in [(9, 0, 2.302585), (9, 1, 4.510860), (5, -1, 0.405465), (0, 3, 0)]:
        expected = torch.tensor([log, -log / 2, log / 3])
        torch.testing.assert_close(
            table[place_token(own, digit, place)], expected, rtol=1e-5, atol=1e-6
        )
    assert not table[:-240].any()


def test_other_tokenizers_have_no_encodings(t5_model):
    assert DigitTokenizer(model=str(t5_model)).number_encodings(8) is None


def test_a_saved_tokenizer_comes_back(t5_model, own, questions, tmp_path):
    options = {"max_places": 3, "log_scale": False}
    t5 = RegressionTransformerTokenizer(model=str(t5_model), **options)
    for name, tokenizer in {"own": own, "t5": t5}.items():
        tokenizer.save(tmp_path / name)
        for loaded in (Tokenizer.load(tmp_path / name), pickle.loads(pickle.dumps(tokenizer))):
            assert type(loaded) is RegressionTransformerTokenizer
            assert loaded.fingerprint() == tokenizer.fingerprint()
            assert loaded.vocab_size == tokenizer.vocab_size
            assert loaded.encode(questions[:50]) == tokenizer.encode(questions[:50])
            assert torch.equal(loaded.number_encodings(8), tokenizer.number_encodings(8))


def test_the_fingerprint_changes_with_every_option(questions, t5_model, tmp_path):
    settings = [
        {"vocab_size": 400},
        {"vocab_size": 300},
        {"vocab_size": 400, "max_places": 11},
        {"vocab_size": 400, "log_scale": False},
        {"model": str(t5_model)},
    ]
    tokenizers = [
        RegressionTransformerTokenizer(**s).fit(questions, tmp_path, "key") for s in settings
    ]
    tokenizers.append(DigitTokenizer(vocab_size=400).fit(questions, tmp_path, "key"))
    assert len({tokenizer.fingerprint() for tokenizer in tokenizers}) == len(tokenizers)
    again = RegressionTransformerTokenizer(vocab_size=400).fit(iter(()), tmp_path, "key")
    assert again.fingerprint() == tokenizers[0].fingerprint()


def test_points_that_only_bytes_can_spell():
    tokenizer = RegressionTransformerTokenizer(vocab_size=400)
    tokenizer.train(["12 345", "5 5"])
    assert round_trip(tokenizer, "-1.50") == "-1.50"
    assert names(tokenizer, "1.5") == ["_1_0_", "<0x2E>", "_5_-1_"]


def test_no_places_are_refused():
    with pytest.raises(UsageError, match="max_places=0"):
        RegressionTransformerTokenizer(vocab_size=400, max_places=0)


def test_places_beyond_float32_need_the_logarithm():
    with pytest.raises(
        UsageError, match="max_places=38 is more than float32 holds: give at most 37"
    ):
        RegressionTransformerTokenizer(max_places=38, log_scale=False)
    assert RegressionTransformerTokenizer(max_places=38).max_places == 38
