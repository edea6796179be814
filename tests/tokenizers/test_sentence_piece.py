import gzip
import json
import os
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from beyond_ce.errors import UsageError
from beyond_ce.tokenizers import DigitTokenizer, SubwordTokenizer

CLASSES = [DigitTokenizer, SubwordTokenizer]

numbers = st.from_regex(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", fullmatch=True)
number_texts = st.lists(numbers | st.sampled_from(["+", "-", "("]), min_size=1).map(" ".join)
arithmetic = st.builds(
    lambda left, sign, right: f"What is {left} {sign} ({right})?",
    numbers,
    st.sampled_from("+-*/"),
    numbers,
)


def pieces(tokenizer, text: str) -> list[str]:
    return [tokenizer._pieces.id_to_piece(i) for i in tokenizer.encode([text])[0]]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text() | arithmetic | numbers, max_size=4))
def test_any_text_comes_back_exactly(tokenizer, texts):
    ids = tokenizer.encode(texts)
    assert [tokenizer.decode(i) for i in ids] == texts
    assert all(0 <= i < tokenizer.vocab_size for row in ids for i in row)
    assert not {tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id} & {i for r in ids for i in r}


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  a  b ",
        "\n",
        "a\r\n\tb\0",
        "▁",
        " ▁▁ 1▁",
        "▅",
        "<0x31></s><pad>",
        "½٣１²",
        "👩‍🚀é",
    ],
)
def test_awkward_texts_come_back_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode([text])[0]) == text


def test_parts_decode_to_the_parts(tokenizer):
    prompt, answer = tokenizer.encode(["What is 3 - 4? ", " -1"])
    assert tokenizer.decode([*prompt, *answer]) == "What is 3 - 4?  -1"


@settings(deadline=None)
@given(text=st.text(alphabet="0123456789 -+.a") | arithmetic)
def test_numbers_share_no_piece_with_other_text(tokenizer, text):
    split = pieces(tokenizer, text)
    assert all(p.isdecimal() or not any(c.isdigit() for c in p) for p in split)


def test_digit_and_subword_cut_words_the_same_way(questions):
    found = []
    for cls in CLASSES:
        tokenizer = cls(vocab_size=2000)
        tokenizer.train(questions)
        found.append([[p for p in pieces(tokenizer, q) if not p.isdecimal()] for q in questions])
    assert found[0] == found[1]


def test_decode_stops_at_eos_and_leaves_out_padding_and_unknown_ids(tokenizer):
    ids = tokenizer.encode(["12"])[0]
    noise = [tokenizer.pad_id, tokenizer.vocab_size, 10**6, -100]
    assert tokenizer.decode([*noise, *ids, *noise, tokenizer.eos_id, *ids]) == "12"
    assert tokenizer.decode(torch.tensor([*ids, tokenizer.eos_id])) == "12"
    assert tokenizer.decode([]) == ""


def test_number_values_are_the_numbers_that_the_tokens_spell(tokenizer):
    values = tokenizer.number_values()
    assert values.shape == (tokenizer.vocab_size,)
    assert values.dtype == torch.float32
    for i in range(tokenizer.vocab_size):
        piece = tokenizer._pieces.id_to_piece(i)
        if piece.isascii() and piece.isdecimal():
            assert values[i] == int(piece)
        else:
            assert torch.isnan(values[i]), piece


@settings(deadline=None)
@given(number=st.from_regex("[0-9]{1,12}", fullmatch=True))
def test_token_values_make_up_the_number(tokenizer, number):
    ids = tokenizer.encode([number])[0]
    values = tokenizer.number_values()[ids]
    rebuilt = "".join(
        f"{int(value):0{len(piece)}d}"
        for value, piece in zip(values, pieces(tokenizer, number), strict=True)
    )
    assert rebuilt == number
    if tokenizer.split_digits:
        assert len(ids) == len(number)


@pytest.mark.parametrize("cls", CLASSES)
@settings(deadline=None)
@given(text=number_texts)
def test_t5_number_text_comes_back_exactly(cls, t5_model, text):
    tokenizer = cls(model=str(t5_model))
    assert tokenizer.decode(tokenizer.encode([text])[0]) == text


@pytest.mark.parametrize("cls", CLASSES)
def test_t5_text_of_its_own_pieces_comes_back_exactly(cls, t5_model):
    tokenizer = cls(model=str(t5_model))
    size = tokenizer._pieces.vocab_size()
    words = [tokenizer._pieces.id_to_piece(i).replace("▁", "") for i in range(3, size)]
    draw = random.Random(0)
    for _ in range(200):
        text = " ".join(word for word in draw.choices(words, k=8) if word)
        assert tokenizer.decode(tokenizer.encode([text])[0]) == text


def test_t5_ids_fit_the_pretrained_embedding(t5_model):
    for cls in CLASSES:
        tokenizer = cls(model=str(t5_model))
        assert tokenizer.vocab_size == 500 + 100  # T5: 32,000 + 100
        assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2)
        assert tokenizer.number_values().shape == (600,)
        assert tokenizer.decode([599, *tokenizer.encode(["7"])[0], 550]) == "7"
        assert tokenizer.encode(["{"])[0][-1] == tokenizer.unk_id


def test_t5_fit_learns_nothing(t5_model, tmp_path):
    tokenizer = DigitTokenizer(vocab_size=300, model=str(t5_model.parent))  # the folder
    assert tokenizer.fit(iter(()), tmp_path, "key") is tokenizer
    assert tokenizer.vocab_size == 600
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_wrong_t5_model_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    noise = tmp_path / "noise.model"
    noise.write_bytes(b"no model")
    for name in ("no-such/model", str(tmp_path / "missing.model"), str(noise)):
        with pytest.raises(UsageError, match=f"tokenizer.model={name}") as error:
            DigitTokenizer(model=name).fit([], tmp_path, "key")
        assert "\n" not in str(error.value)


def test_grade_school_problems_come_back_exactly(tmp_path):
    path = Path(os.environ.get("BEYOND_CE_DATA", "")) / "gsm8k" / "test.jsonl.gz"
    if not path.is_file():
        pytest.skip("needs BEYOND_CE_DATA")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts = [text for line in lines for text in json.loads(line).values()]
    for cls in CLASSES:
        tokenizer = cls(vocab_size=2048).fit(texts, tmp_path, "gsm8k")
        assert tokenizer.vocab_size == 2048
        ids = tokenizer.encode(texts)
        assert [tokenizer.decode(i) for i in ids] == texts


def test_decimal_points_are_the_points_within_numbers(tokenizer, t5_model):
    for each in (tokenizer, *(cls(model=str(t5_model)) for cls in CLASSES)):
        points = each.decimal_points()
        assert points.shape == (each.vocab_size,) and points.dtype == torch.bool
        assert all(each.decode([i]) == "." for i in points.nonzero().squeeze(1).tolist())
    (ids,) = tokenizer.encode(["-3.25"])
    assert tokenizer.decimal_points()[ids].tolist() == [tokenizer.decode([i]) == "." for i in ids]
    assert tokenizer.decimal_points()[ids].sum() == 1


def test_a_point_that_is_a_byte_is_a_decimal_point(tokenizer):
    trained = type(tokenizer)(vocab_size=400)
    trained.train(["What is 15 - 3 + 25?"] * 100)
    (ids,) = trained.encode(["1.5"])
    assert trained.decimal_points()[ids].sum() == 1
