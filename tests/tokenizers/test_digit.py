from hypothesis import given, settings
from hypothesis import strategies as st

from beyond_ce.tokenizers import DigitTokenizer, SubwordTokenizer

numbers = st.from_regex(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", fullmatch=True)
number_texts = st.lists(numbers | st.sampled_from(["+", "-", "("]), min_size=1).map(" ".join)


def pieces(tokenizer, text: str) -> list[str]:
    return [tokenizer._pieces.id_to_piece(i) for i in tokenizer.encode([text])[0]]


def test_a_digit_tokenizer_has_exactly_the_ten_digits(questions, t5_model):
    trained = DigitTokenizer(vocab_size=600)
    trained.train(questions)
    for tokenizer in (trained, DigitTokenizer(model=str(t5_model))):
        values = tokenizer.number_values()
        assert sorted(values[~values.isnan()].tolist()) == list(range(10))


@settings(deadline=None)
@given(text=number_texts | st.text(alphabet="0123456789 .-(th"))
def test_t5_digits_are_single_existing_pieces(t5_model, text):
    tokenizer = DigitTokenizer(model=str(t5_model))
    split = pieces(tokenizer, text)
    assert [p for p in split if any(c in "0123456789" for c in p)] == [
        c for c in text if c in "0123456789"
    ]
    assert tokenizer.decode(tokenizer.encode([text])[0]) == " ".join(text.split())


def test_t5_splits_only_what_holds_digits(t5_model):
    digit, subword = (cls(model=str(t5_model)) for cls in (DigitTokenizer, SubwordTokenizer))
    assert digit.encode(["What is the"]) == subword.encode(["What is the"])
    assert pieces(digit, "12 -3") == ["▁", "1", "2", "▁-", "3"]
    mixed = [p for p in pieces(subword, "the 12th of May, (1999)") if not p.isalpha()]
    assert any(len(p) > 1 and any(c.isdigit() for c in p) for p in mixed)
