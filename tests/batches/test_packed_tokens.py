"""Tokens on disk, and the rows and batches cut from them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beyond_ce.batches import packed_tokens as module
from beyond_ce.batches.base import cache_name
from beyond_ce.batches.batch import IGNORED, packed_batch
from beyond_ce.batches.packed_tokens import PackedTokens, pack
from beyond_ce.errors import RunError
from beyond_ce.tokenizers import ByteTokenizer

EOS = 9


def encode(texts: list[str]) -> list[list[int]]:
    return [[int(digit) for digit in text] for text in texts]


def split(texts: list[str]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": texts, "task": texts})


def packed_tokens(folder: Path, texts: list[str], length: int = 4, **options: int) -> PackedTokens:
    vocab_size = options.get("vocab_size", 10)
    pack(split(texts), encode, EOS, vocab_size, folder)
    return PackedTokens(folder, length)


documents = st.lists(st.text("01234567", max_size=12), min_size=1, max_size=12)


@given(documents, st.integers(1, 7), st.integers(1, 20))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_token_is_a_label_once_and_none_crosses_documents(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    texts: list[str],
    length: int,
    shard: int,
) -> None:
    monkeypatch.setattr(module, "_SHARD_CHARACTERS", shard)
    tokens = packed_tokens(tmp_path_factory.mktemp("tokens") / "a", texts, length)
    every = [[*document, EOS] for document in encode(texts)]
    assert tokens.tokens.tolist() == list(chain.from_iterable(every))
    assert (tokens.documents, tokens.bytes) == (len(texts), sum(map(len, texts)))
    assert len(tokens) == math.ceil((len(tokens.tokens) - 1) / length)
    pairs = []
    for row in range(len(tokens)):
        batch = packed_batch(tokens.rows([row]), EOS)
        assert batch.input_ids.shape == batch.labels.shape == batch.attention_mask.shape
        assert batch.attention_mask.all() and batch.segments is not None
        known = batch.labels != IGNORED
        pairs += torch.stack([batch.input_ids[known], batch.labels[known]], 1).tolist()
        # A new document begins right after an end token, and nowhere else.
        begins = batch.segments[:, 1:] - batch.segments[:, :-1]
        assert begins.tolist() == (batch.input_ids[:, :-1] == EOS).long().tolist()
        assert not batch.segments[:, 0].any()
    assert pairs == [[a, b] for document in every for a, b in pairwise(document)]


def test_rows_overlap_by_one_token_and_the_last_is_filled_up(tmp_path: Path) -> None:
    tokens = packed_tokens(tmp_path / "a", ["123", "45"], length=4)
    rows = tokens.rows(np.array([1, 0]))
    assert rows.dtype == torch.long
    assert rows.tolist() == [[4, 5, EOS, EOS, EOS], [1, 2, 3, EOS, 4]]
    batch = packed_batch(rows, EOS)
    assert batch.labels.tolist() == [[5, EOS, IGNORED, IGNORED], [2, 3, EOS, IGNORED]]
    assert batch.segments is not None
    assert batch.segments.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize(("vocab_size", "dtype"), [(2**16, "uint16"), (2**16 + 1, "uint32")])
def test_tokens_take_as_little_room_as_the_vocabulary_lets_them(
    tmp_path: Path, vocab_size: int, dtype: str
) -> None:
    largest = vocab_size - 1
    pack(split(["x"]), lambda texts: [[largest] for _ in texts], 0, vocab_size, tmp_path / "a")
    tokens = PackedTokens(tmp_path / "a", 1)
    assert tokens.tokens.dtype == dtype
    assert tokens.rows([0]).tolist() == [[largest, 0]]


def killed_after(calls: int) -> Callable[[list[str]], list[list[int]]]:
    left = iter(range(calls))

    def encode_or_die(texts: list[str]) -> list[list[int]]:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return encode(texts)

    return encode_or_die


TEXTS = [str(i) * 3 for i in range(8)]


def test_a_killed_preparation_goes_on_after_its_last_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARD_CHARACTERS", 6)  # two documents
    whole = packed_tokens(tmp_path / "whole", TEXTS)
    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        pack(split(TEXTS), killed_after(3), EOS, 10, folder)
    assert not folder.exists()
    unfinished = tmp_path / "killed.partial" / "tokens.bin"
    with unfinished.open("ab") as file:
        file.write(b"half a sha")  # as a process that is killed while it writes leaves it
    seen: list[str] = []

    def watched(texts: list[str]) -> list[list[int]]:
        seen.extend(texts)
        return encode(texts)

    pack(split(TEXTS), watched, EOS, 10, folder)
    assert seen == TEXTS[6:]
    resumed = PackedTokens(folder, 4)
    assert resumed.tokens.tolist() == whole.tokens.tolist()
    assert (resumed.documents, resumed.bytes) == (whole.documents, whole.bytes)
    pack(split(TEXTS), killed_after(0), EOS, 10, folder)  # what is there is left alone


def test_a_preparation_that_was_killed_when_all_was_written_goes_on(tmp_path: Path) -> None:
    whole = packed_tokens(tmp_path / "a", TEXTS)
    (tmp_path / "a").rename(tmp_path / "b.partial")
    assert packed_tokens(tmp_path / "b", TEXTS).tokens.tolist() == whole.tokens.tolist()
    assert not (tmp_path / "b.partial").exists()


@pytest.mark.parametrize("damage", ["shorter", "no index"])
def test_an_unfinished_folder_that_is_damaged_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(module, "_SHARD_CHARACTERS", 6)
    with pytest.raises(KeyboardInterrupt):
        pack(split(TEXTS), killed_after(2), EOS, 10, tmp_path / "a")
    partial = tmp_path / "a.partial"
    if damage == "shorter":
        (partial / "tokens.bin").write_bytes(b"12")
    else:
        (partial / "index.json").write_text("{")
    expected = list(chain.from_iterable([*document, EOS] for document in encode(TEXTS)))
    assert packed_tokens(tmp_path / "a", TEXTS).tokens.tolist() == expected


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: _cut(folder / "tokens.bin"),
        lambda folder: (folder / "tokens.bin").unlink(),
        lambda folder: (folder / "index.json").unlink(),
        lambda folder: (folder / "index.json").write_text('{"dtype": "uint'),
        lambda folder: (folder / "index.json").write_text("[]"),
        lambda folder: (folder / "index.json").write_text('{"dtype": "what", "tokens": 3}'),
    ],
)
def test_a_damaged_cache_is_one_line_that_names_the_file(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    packed_tokens(tmp_path / "a", TEXTS)
    damage(tmp_path / "a")
    with pytest.raises(RunError, match=r"token cache .*tokens\.bin is damaged.*delete") as error:
        packed_tokens(tmp_path / "a", TEXTS)
    assert "\n" not in str(error.value)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the tokens") as error:
        packed_tokens(tmp_path / "file" / "a", TEXTS)
    assert "\n" not in str(error.value)


def test_the_index_tells_what_the_file_holds(tmp_path: Path) -> None:
    pack(split(["12", "é"]), lambda texts: [[1]] * len(texts), EOS, 10, tmp_path / "a")
    index = json.loads((tmp_path / "a" / "index.json").read_text())
    assert index == {"dtype": "uint16", "documents": 2, "tokens": 4, "bytes": 4}


def test_caches_are_named_anew_only_where_the_ids_changed() -> None:
    tokenizer = ByteTokenizer()
    old = hashlib.sha256(f"key-{tokenizer.fingerprint()}-2".encode()).hexdigest()[:16]
    assert cache_name("key", tokenizer, 2) == old
    tokenizer.encoding = 2
    assert cache_name("key", tokenizer, 2) != old
