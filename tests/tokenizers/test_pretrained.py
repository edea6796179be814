"""Tokenizers of transformers, made here in the manner of GPT-2, T5's successors and Qwen."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from beyond_ce.errors import RunError, UsageError
from beyond_ce.tokenizers import PretrainedTokenizer, Tokenizer

END = "<|endoftext|>"


def byte_level(*before: pre_tokenizers.PreTokenizer) -> Backend:
    backend = Backend(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*before, level])
    backend.decoder = decoders.ByteLevel()
    return backend


def sentence_piece() -> Backend:
    backend = Backend(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


def save(backend: Backend, texts: list[str], folder: Path, **special: str) -> Path:
    options = {"vocab_size": 450, "special_tokens": list(special.values()), "show_progress": False}
    if isinstance(backend.model, models.Unigram):
        trainer = trainers.UnigramTrainer(unk_token=special["unk_token"], **options)
    else:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **options)
    backend.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory, questions) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tokenizers")
    texts = [*questions, *[f"in {year}, ² or ١٢ of them" for year in range(1900, 2030)] * 3]
    digits = pre_tokenizers.Digits(individual_digits=True)
    return {
        "gpt2": save(byte_level(), texts, root / "gpt2", eos_token=END),
        "qwen2": save(byte_level(digits), texts, root / "qwen2", eos_token=END, pad_token="<pad>"),
        "unigram": save(
            sentence_piece(), texts, root / "unigram",
            eos_token="</s>", unk_token="<unk>", pad_token="<pad>", bos_token="<s>",
        ),
    }  # fmt: skip


def load(folder: Path, **settings: int) -> PretrainedTokenizer:
    return PretrainedTokenizer(str(folder), **settings).fit(iter(()), Path("unused"), "unused")


def test_it_is_read_at_its_first_use(folders) -> None:
    fresh, fitted = PretrainedTokenizer(str(folders["gpt2"])), load(folders["gpt2"])
    torch.testing.assert_close(fresh.number_values(), fitted.number_values(), equal_nan=True)
    with pytest.raises(UsageError, match="cannot be loaded"):
        PretrainedTokenizer("no/such/folder").number_values()


@pytest.fixture(params=["gpt2", "qwen2", "unigram"])
def tokenizer(request, folders) -> PretrainedTokenizer:
    return load(folders[request.param])


def values(tokenizer: PretrainedTokenizer) -> dict[str, float]:
    """The values of number tokens by the token's own spelling."""
    found = tokenizer.number_values()
    assert found.shape == (tokenizer.vocab_size,) and found.dtype == torch.float32
    spelling = {i: token for token, i in tokenizer._tokenizer.get_vocab().items()}
    return {spelling[i]: float(v) for i, v in enumerate(found) if not v.isnan()}


def test_encoding_is_that_of_transformers(tokenizer, folders, questions):
    theirs = PreTrainedTokenizerFast.from_pretrained(tokenizer.model)
    expected = [theirs.encode(text, add_special_tokens=False) for text in questions[:50]]
    assert tokenizer.encode(questions[:50]) == expected
    assert tokenizer.encode([]) == []
    assert [tokenizer.decode(ids) for ids in expected] == questions[:50]


def test_multi_digit_tokens_are_numbers(folders):
    for name, space in ("gpt2", "Ġ"), ("unigram", "▁"):
        found = values(load(folders[name]))
        assert found["7"] == 7 and found[f"{space}19"] == 19
        assert all(float(token.lstrip(space)) == value for token, value in found.items())
        assert max(found.values()) > 99


def test_single_digits_alone_on_request_or_by_the_tokenizer(folders):
    digits = load(folders["gpt2"], digits_only=True)
    assert set(values(digits).values()) == set(range(10)) and values(digits)["7"] == 7
    assert all(len(token.lstrip("Ġ")) == 1 for token in values(digits))
    assert values(load(folders["qwen2"])) == {str(i): float(i) for i in range(10)}


def test_digits_of_other_scripts_and_added_tokens_are_no_numbers(folders, tmp_path):
    unigram = load(folders["unigram"])
    vocabulary = unigram._tokenizer.get_vocab()
    assert any(not token.isascii() and token.strip("▁").isdigit() for token in vocabulary)
    assert all(token.lstrip("▁").isascii() for token in values(unigram))
    theirs = PreTrainedTokenizerFast.from_pretrained(folders["gpt2"])
    theirs.add_tokens(["12345678", AddedToken("99999999", special=True)])
    theirs.save_pretrained(tmp_path)
    wider = load(tmp_path)
    assert wider.vocab_size == len(theirs) == load(folders["gpt2"]).vocab_size + 2
    assert values(wider) == values(load(folders["gpt2"]))


@pytest.mark.parametrize("name", ["gpt2", "qwen2"])
def test_the_point_is_the_only_decimal_point(folders, name):
    tokenizer = load(folders[name])
    (point,) = tokenizer.decimal_points().nonzero().flatten().tolist()
    assert tokenizer.encode(["."]) == [[point]]


def test_settings_of_a_file_that_cut_or_fill_texts_have_no_effect(folders, tmp_path, questions):
    theirs = PreTrainedTokenizerFast.from_pretrained(folders["qwen2"])
    theirs.backend_tokenizer.enable_truncation(3)
    theirs.backend_tokenizer.enable_padding(length=50)
    theirs.save_pretrained(tmp_path)
    tokenizer = load(tmp_path)
    before = tokenizer.fingerprint()
    assert tokenizer.encode(questions[:5]) == load(folders["qwen2"]).encode(questions[:5])
    assert tokenizer.fingerprint() == before == load(folders["qwen2"]).fingerprint()


def test_the_vocabulary_has_the_size_that_it_has(folders):
    assert load(folders["gpt2"], vocab_size=300).vocab_size == load(folders["gpt2"]).vocab_size


def test_decoding_stops_at_the_end(tokenizer):
    ids = tokenizer.encode(["12 in 3"])[0]
    assert tokenizer.decode([*ids, tokenizer.eos_id, *ids]) == "12 in 3"
    assert tokenizer.decode([tokenizer.vocab_size + 5, *ids, -1]) == "12 in 3"
    assert tokenizer.decode([*ids, tokenizer.pad_id, tokenizer.pad_id]) == "12 in 3"
    assert tokenizer.decode([tokenizer.eos_id]) == ""


def test_decoding_does_not_list_the_vocabulary(tokenizer, monkeypatch):
    """Which takes far longer than decoding a text, of which there may be many."""
    ids = tokenizer.encode(["12 in 3"])[0]

    def refuse(*_) -> None:
        raise AssertionError("the vocabulary is listed")

    monkeypatch.setattr(type(tokenizer._tokenizer), "get_vocab", refuse)
    assert tokenizer.decode(ids) == "12 in 3"


def test_the_end_token_pads_where_there_is_no_other(folders):
    assert load(folders["gpt2"]).pad_id == load(folders["gpt2"]).eos_id
    assert load(folders["qwen2"]).pad_id != load(folders["qwen2"]).eos_id


def test_a_saved_or_pickled_tokenizer_comes_back(tokenizer, tmp_path, questions):
    tokenizer.save(tmp_path)
    for copy in Tokenizer.load(tmp_path), pickle.loads(pickle.dumps(tokenizer)):
        assert isinstance(copy, PretrainedTokenizer)
        assert copy.fingerprint() == tokenizer.fingerprint()
        assert copy.encode(questions[:50]) == tokenizer.encode(questions[:50])
        assert values(copy) == values(tokenizer)
        assert (copy.pad_id, copy.eos_id) == (tokenizer.pad_id, tokenizer.eos_id)


def test_a_damaged_folder_is_named_in_one_line(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    path = tmp_path / "pretrained" / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RunError, match=str(tmp_path)) as error:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(error.value)


def test_the_fingerprint_is_of_the_content(folders, tmp_path, questions):
    moved = load(folders["gpt2"])._tokenizer
    moved.save_pretrained(tmp_path)
    assert load(tmp_path).fingerprint() == load(folders["gpt2"]).fingerprint()
    assert len({load(folder).fingerprint() for folder in folders.values()}) == 3


def test_what_cannot_be_used_is_said_in_one_line(monkeypatch, tmp_path, questions):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    endless = save(byte_level(), questions, tmp_path / "endless", pad_token="<pad>")
    for folder, reason in {
        tmp_path / "missing": "cannot be loaded",
        tmp_path / "empty": "cannot be loaded",
        endless: "no end token",
    }.items():
        with pytest.raises(UsageError, match=f"tokenizer.model={folder}.*{reason}") as error:
            load(folder)
        assert "\n" not in str(error.value)


def test_a_text_that_spells_a_special_token_is_a_text(folders, tmp_path, questions):
    """Also where the special tokens are among the vocabulary's pieces, as in a unigram model."""
    theirs = PreTrainedTokenizerFast.from_pretrained(folders["qwen2"])
    theirs.add_tokens([AddedToken("<|im_end|>", special=True), AddedToken("<think>")])
    theirs.save_pretrained(tmp_path)
    text = f"a {END} b </s><s><unk> <pad>\n<|im_end|>5 "
    for folder in (*folders.values(), tmp_path):
        tokenizer = load(folder)
        before = tokenizer.fingerprint()
        theirs = tokenizer._tokenizer
        (ids,) = tokenizer.encode([text])
        assert not (set(theirs.all_special_ids) - {theirs.unk_token_id}) & set(ids)
        if folder != folders["unigram"]:  # which lacks "<" and others
            assert tokenizer.decode(ids) == text
        assert tokenizer.fingerprint() == before
    added = load(tmp_path)._tokenizer.get_added_vocab()
    (ids,) = load(tmp_path).encode(["<|im_end|><think>"])
    assert added["<|im_end|>"] not in ids and ids[-1] == added["<think>"]  # an ordinary token


def test_an_unknown_character_is_no_end_token(tmp_path):
    backend = Backend(models.WordLevel({"a": 0, "<end>": 1}, unk_token="<end>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ours = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", unk_token="<end>")
    ours.save_pretrained(tmp_path)
    assert load(tmp_path).encode(["a b <end> a"]) == [[0, 0]]


def test_digits_can_be_split(folders: dict[str, Path], tmp_path: Path) -> None:
    plain = PretrainedTokenizer(str(folders["gpt2"])).fit((), tmp_path, "")
    split = PretrainedTokenizer(str(folders["gpt2"]), split_digits=True).fit((), tmp_path, "")
    values = split.number_values()
    assert values[values.isfinite()].sort().values.tolist() == list(range(10))
    text = "What is 1999 times -45.5 in 12?"
    (ids,) = split.encode([text])
    found = values[ids][values[ids].isfinite()].int().tolist()
    assert found == [int(character) for character in text if character in "0123456789"]
    assert split.decode(ids) == plain.decode(*plain.encode([text]))
    assert split.fingerprint() != plain.fingerprint()
    split.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved").encode([text]) == [ids]


def test_digits_are_not_split_where_that_would_change_the_text(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    tokenizer = PretrainedTokenizer(str(folders["unigram"]), split_digits=True)
    with pytest.raises(UsageError, match="choose tokenizer=digit"):
        tokenizer.fit((), tmp_path, "")


def test_loads_where_nothing_else_has_imported_it(folders, tmp_path) -> None:
    load(folders["gpt2"]).save(tmp_path)
    code = (
        "import sys; from pathlib import Path; from beyond_ce.tokenizers import Tokenizer; "
        "assert 'beyond_ce.tokenizers.pretrained' not in sys.modules; "
        f"print(type(Tokenizer.load(Path({str(tmp_path)!r}))).__name__)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "PretrainedTokenizer\n", found.stderr
