import pickle

import torch
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.tokenizers import ByteTokenizer, Tokenizer


@given(st.lists(st.text(), max_size=4))
def test_any_text_comes_back_exactly(texts):
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(texts)
    assert [tokenizer.decode(row) for row in ids] == texts
    assert [bytes(row) for row in ids] == [text.encode() for text in texts]


@given(st.binary())
def test_lone_bytes_are_kept_and_decode_to_something_that_can_be_written(content):
    tokenizer = ByteTokenizer()
    assert tokenizer.encode([content.decode("utf-8", "surrogateescape")]) == [list(content)]
    text = tokenizer.decode(content)
    assert text == content.decode("utf-8", "replace")
    text.encode()


def test_special_tokens_follow_the_bytes():
    tokenizer = ByteTokenizer(vocab_size=1024)
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.vocab_size) == (256, 257, 258)


def test_decode_stops_at_eos_and_leaves_out_padding_and_unknown_ids():
    noise = [256, 258, 10**6, -100]
    assert ByteTokenizer().decode([*noise, 49, *noise, 50, 257, 51]) == "12"
    assert ByteTokenizer().decode(torch.tensor([49, 257, 50])) == "1"
    assert ByteTokenizer().decode([]) == ""


def test_digits_are_the_numbers():
    tokenizer = ByteTokenizer()
    values = tokenizer.number_values()
    assert values.shape == (258,) and values.dtype == torch.float32
    assert values[tokenizer.encode(["0123456789"])[0]].tolist() == list(range(10))
    assert values.isnan().sum() == 248
    assert tokenizer.decimal_points().nonzero().tolist() == [[ord(".")]]


def test_there_is_nothing_to_learn(tmp_path):
    def unread():
        raise AssertionError("read")
        yield

    tokenizer = ByteTokenizer()
    assert tokenizer.fit(unread(), tmp_path, "key") is tokenizer
    assert list(tmp_path.iterdir()) == []


def test_a_saved_or_pickled_tokenizer_comes_back(tmp_path):
    tokenizer = ByteTokenizer(vocab_size=1024)
    tokenizer.save(tmp_path)
    for copy in (Tokenizer.load(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert type(copy) is ByteTokenizer
        assert copy.fingerprint() == tokenizer.fingerprint()
