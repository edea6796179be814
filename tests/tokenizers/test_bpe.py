"""Byte pairs learned here, and vocabularies laid out as Llama 2's."""

from __future__ import annotations

import inspect
import io
import json
import pickle
import textwrap
import tokenize
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaTokenizer

from beyond_ce.errors import UsageError
from beyond_ce.tokenizers import BPETokenizer, DigitTokenizer, Tokenizer

whitespace = st.text(" \t\n\r\f▁\u00a0\u2028")
code = st.lists(
    st.sampled_from(["def f(x):", "return", "x == 12", "é", "#▁", "\0\x1b"]) | whitespace
).map("".join)


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return [inspect.getsource(module) for module in (inspect, json, textwrap, tokenize)]


@pytest.fixture(scope="module")
def trained(documents) -> BPETokenizer:
    tokenizer = BPETokenizer(vocab_size=1000)
    tokenizer.train(documents)
    return tokenizer


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory, documents) -> Path:
    """A small tokenizer.model made as Llama 2's was: no padding, a space put before each text."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in documents for line in text.splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=1000,
        character_coverage=0.99995,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        unk_surface=" \u2047 ",
        minloglevel=2,
    )
    folder = tmp_path_factory.mktemp("llama")
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder


def pieces(tokenizer: BPETokenizer, text: str) -> list[str]:
    return [tokenizer._pieces.id_to_piece(i) for i in tokenizer.encode([text])[0]]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text() | code, max_size=4))
def test_any_text_comes_back_exactly(trained, texts):
    ids = trained.encode(texts)
    assert [trained.decode(row) for row in ids] == texts
    assert not {trained.pad_id, trained.eos_id, trained.unk_id} & {i for r in ids for i in r}


def test_documents_come_back_exactly_in_fewer_tokens(trained, documents):
    ids = trained.encode(documents)
    assert [trained.decode(row) for row in ids] == documents
    assert sum(map(len, ids)) < sum(map(len, documents)) / 2


def test_digits_newlines_and_indentation_are_tokens(trained):
    found = pieces(trained, "if x:\n        return 120\n\n\ty")
    assert found[-4:] == ["\n", "\n", "<0x09>", "y"]
    assert "▁" * 8 in found
    assert found[found.index("1") :][:3] == ["1", "2", "0"]
    vocabulary = [trained._pieces.id_to_piece(i) for i in range(trained.vocab_size)]
    single = [p for p in vocabulary if set(p) & set("0123456789\n") and not p.startswith("<0x")]
    assert sorted(single) == sorted("0123456789\n")


def test_only_the_ten_digits_are_numbers(trained, llama_folder):
    for tokenizer in (trained, BPETokenizer(model=str(llama_folder))):
        values = tokenizer.number_values()
        assert values.shape == (tokenizer.vocab_size,)
        assert sorted(values[~values.isnan()].tolist()) == list(range(10))


@pytest.mark.parametrize("texts", [[], [""], ["\n\n"]])
def test_texts_without_lines_are_refused(texts):
    with pytest.raises(UsageError, match="can be trained"):
        BPETokenizer(vocab_size=400).train(texts)


def test_a_vocabulary_saved_here_can_be_given_as_model(trained, tmp_path, documents):
    trained.save(tmp_path)
    given = BPETokenizer(model=str(tmp_path)).fit(iter(()), tmp_path, "key")
    assert given.encode(documents) == trained.encode(documents)
    assert [given.decode(row) for row in given.encode(documents)] == documents
    ids = [(t.pad_id, t.eos_id, t.unk_id, t.bos_id, t.vocab_size) for t in (given, trained)]
    assert ids[0] == ids[1]


@settings(max_examples=300, deadline=None)
@given(text=st.text() | code)
def test_llama_encoding_is_that_of_sentencepiece(llama_folder, text):
    tokenizer = BPETokenizer(model=str(llama_folder))
    theirs = sentencepiece.SentencePieceProcessor(str(llama_folder / "tokenizer.model"))
    (ids,) = tokenizer.encode([text])
    assert ids == theirs.encode(text)
    assert tokenizer.decode([tokenizer.bos_id, *ids]) == theirs.decode(ids)
    assert tokenizer.decode(ids) == text.replace("▁", " ")


@pytest.fixture(scope="module")
def theirs(llama_folder) -> LlamaTokenizer:
    return LlamaTokenizer.from_pretrained(str(llama_folder))


@settings(max_examples=100, deadline=None)
@given(text=st.text() | code)
def test_llama_encoding_is_that_of_transformers(llama_folder, theirs, text):
    """Where they put a space before the text as SentencePiece does: not before another space."""
    text = text.lstrip(" ▁")
    (ids,) = BPETokenizer(model=str(llama_folder)).encode([text])
    assert theirs.encode(text, add_special_tokens=False) == ids


def test_llama_special_tokens(llama_folder, tmp_path, documents):
    tokenizer = BPETokenizer(vocab_size=300, model=str(llama_folder))
    assert tokenizer.eos_id == -1  # not read yet
    assert tokenizer.fit(iter(()), tmp_path, "key") is tokenizer
    assert tokenizer.vocab_size == 1000
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2, 0)
    assert pieces(tokenizer, "12")[0] == "▁"
    ids = tokenizer.encode(["x"])[0]
    assert tokenizer.decode([1, *ids, 0, 10**6, -1, 2, *ids]) == "x"
    assert not {0, 1, 2} & {i for row in tokenizer.encode(documents) for i in row}
    assert list(tmp_path.iterdir()) == []


def test_saved_and_pickled_tokenizers_come_back(trained, llama_folder, tmp_path, documents):
    for name, tokenizer in {"own": trained, "llama": BPETokenizer(model=str(llama_folder))}.items():
        tokenizer.save(tmp_path / name)
        for copy in (Tokenizer.load(tmp_path / name), pickle.loads(pickle.dumps(tokenizer))):
            assert type(copy) is BPETokenizer
            assert copy.fingerprint() == tokenizer.fingerprint()
            assert copy.encode(documents) == tokenizer.encode(documents)
            assert (copy.eos_id, copy.pad_id) == (tokenizer.eos_id, tokenizer.pad_id)


def test_a_saved_vocabulary_needs_no_original(llama_folder, tmp_path):
    original = tmp_path / "tokenizer.model"
    original.write_bytes((llama_folder / "tokenizer.model").read_bytes())
    BPETokenizer(model=str(original)).save(tmp_path / "saved")
    original.unlink()
    assert Tokenizer.load(tmp_path / "saved").eos_id == 2


def test_a_fitted_tokenizer_is_found_in_the_cache_of_its_own_class(tmp_path, documents):
    first = BPETokenizer(vocab_size=400).fit(documents, tmp_path, "key")
    second = BPETokenizer(vocab_size=400).fit(iter(()), tmp_path, "key")
    assert second.fingerprint() == first.fingerprint()
    with pytest.raises(UsageError, match="empty"):
        DigitTokenizer(vocab_size=400).fit(iter(()), tmp_path, "key")


def test_a_vocabulary_of_another_layout_is_named_in_one_line(t5_model, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in (str(t5_model), str(tmp_path / "missing.model"), "no-such/model"):
        with pytest.raises(UsageError, match=f"tokenizer.model={name}") as error:
            BPETokenizer(model=name).fit([], tmp_path, "key")
        assert "\n" not in str(error.value)


def test_an_end_token_that_texts_may_have_is_refused(tmp_path, questions):
    """`user_defined_symbols` are found in texts; SentencePiece gives them no role."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(questions),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        user_defined_symbols=["</s>", "<s>"],
        minloglevel=2,
    )
    path = tmp_path / "tokenizer.model"
    path.write_bytes(model.getvalue())
    with pytest.raises(UsageError, match="not a SentencePiece vocabulary"):
        BPETokenizer(model=str(path)).encode(["a </s>"])
