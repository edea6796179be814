"""What holds for every tokenizer of conf/tokenizer, a new one included."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from choices import choices, target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from beyond_ce.configuration import build, compose
from beyond_ce.tokenizers import PretrainedTokenizer, Tokenizer

TEXTS = ["What is -12.5 - (3 + 100)?", "It is 0.07, she said.", ""]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of transformers whose tokens are bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    folder = tmp_path_factory.mktemp("published")
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=choices("tokenizer"))
def tokenizer(
    request: pytest.FixtureRequest, questions: list[str], published: Path, cache_dir: Path
) -> Tokenizer:
    name = request.param
    of_transformers = issubclass(target("tokenizer", name), PretrainedTokenizer)
    needed = [f"tokenizer.model={published}"] if of_transformers else []
    config = compose([f"tokenizer={name}", *needed])
    if "vocab_size" in config.tokenizer:
        config.tokenizer.vocab_size = 400
    return build(config.tokenizer, "tokenizer").fit(iter(questions), cache_dir, "every tokenizer")


def test_ids_are_those_of_the_vocabulary(tokenizer: Tokenizer) -> None:
    rows = tokenizer.encode(TEXTS)
    assert rows[0] and not rows[2]
    assert all(0 <= i < tokenizer.vocab_size for row in rows for i in row)
    special = {tokenizer.pad_id, tokenizer.eos_id}
    assert all(0 <= i < tokenizer.vocab_size for i in special)
    assert not special & {i for row in rows for i in row}


SPELLINGS = ["</s>", "<s>", "<pad>", "<unk>", "<|endoftext|>", "[NUM]", "<extra_id_0>", "<0x0A>"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(parts=st.lists(st.sampled_from(SPELLINGS) | st.text(max_size=5), max_size=6))
def test_no_text_gives_a_special_token(tokenizer: Tokenizer, parts: list[str]) -> None:
    text = "".join(part for part in parts if part.isprintable())
    (ids,) = tokenizer.encode([text])
    assert not {tokenizer.pad_id, tokenizer.eos_id} & set(ids)
    if tokenizer.token_numbers([text]) is None:  # others write numbers as [NUM]
        assert tokenizer.decode(ids) == text


def test_texts_come_back(tokenizer: Tokenizer) -> None:
    """Of a tokenizer with numbers beside its tokens what has no number does."""
    texts = TEXTS if tokenizer.token_numbers(TEXTS) is None else ["It is so, she said.", ""]
    assert [tokenizer.decode(row) for row in tokenizer.encode(texts)] == texts
    (row,) = tokenizer.encode(texts[:1])
    assert tokenizer.decode([*row, tokenizer.eos_id, *row]) == texts[0]


def test_tables_have_a_row_for_each_token(tokenizer: Tokenizer) -> None:
    values, points = tokenizer.number_values(), tokenizer.decimal_points()
    assert values.shape == points.shape == (tokenizer.vocab_size,)
    assert values.is_floating_point() and points.dtype == torch.bool
    assert not (values.isfinite() & points).any()
    encodings = tokenizer.number_encodings(8)
    assert encodings is None or encodings.shape == (tokenizer.vocab_size, 8)
    numbers = tokenizer.token_numbers(TEXTS)
    if numbers is not None:
        assert [len(row) for row in numbers] == [len(row) for row in tokenizer.encode(TEXTS)]


def test_a_saved_or_pickled_one_comes_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    for copy in (Tokenizer.load(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert type(copy) is type(tokenizer)
        assert copy.fingerprint() == tokenizer.fingerprint()
        assert copy.vocab_size == tokenizer.vocab_size
        assert copy.encode(TEXTS) == tokenizer.encode(TEXTS)
