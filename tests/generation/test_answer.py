"""Answers as text, from every kind of head."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from beyond_ce.errors import UsageError
from beyond_ce.generation import answer, generate
from beyond_ce.models import Decoder, XVal
from beyond_ce.models.heads import Head, LMHead, RegressionHead, XValHead
from beyond_ce.tokenizers import DigitTokenizer, XValTokenizer

TEXTS = ["What is 3 + 4?", "What is -12.5 - 3 + 100?", "What is 1?"]


@pytest.fixture(scope="module")
def digit() -> DigitTokenizer:
    tokenizer = DigitTokenizer(vocab_size=400)
    tokenizer.train(TEXTS * 20)
    return tokenizer


@pytest.fixture(scope="module")
def xval() -> XValTokenizer:
    tokenizer = XValTokenizer(vocab_size=400)
    tokenizer.train(TEXTS * 20)
    return tokenizer


def decoder(tokenizer: Any, head: type[Head]) -> Decoder:
    torch.manual_seed(0)
    return Decoder(
        tokenizer.vocab_size, 0, 1, partial(head), dim=16, num_layers=1, num_heads=2, max_length=64
    )


def fill_in(tokenizer: XValTokenizer) -> XVal:
    torch.manual_seed(0)
    return XVal(
        tokenizer.vocab_size, 0, 1, partial(XValHead, decimals=2), dim=16, num_layers=1,
        num_heads=2, ff_dim=32, max_length=64, answer_slots=2, dropout=0.1,
    )  # fmt: skip


def test_tokens_are_generated_and_decoded(digit: DigitTokenizer) -> None:
    model = decoder(digit, LMHead)
    tokens = generate(model, digit.encode(TEXTS), 5, eos_id=digit.eos_id, num_beams=2).tokens
    answers = answer(model, digit, TEXTS, "cpu", max_new_tokens=5, num_beams=2)
    assert answers == [digit.decode(row) for row in tokens]


@pytest.mark.parametrize("batch_size", [1, 2, None])
def test_a_value_is_printed_so_that_it_can_be_read_back(
    digit: DigitTokenizer, batch_size: int | None
) -> None:
    model = decoder(digit, RegressionHead)
    torch.nn.init.constant_(model.head.linear.weight, 1e-4)  # type: ignore[union-attr, arg-type]
    model.train()
    answers = answer(model, digit, TEXTS, "cpu", max_new_tokens=5, batch_size=batch_size)
    assert model.training
    for text, given in zip(TEXTS, answers, strict=True):
        (alone,) = answer(model, digit, [text], "cpu", max_new_tokens=5)
        assert float(given) == pytest.approx(float(alone), abs=1e-7)
        assert "e" not in given


def test_slots_are_filled_and_end_at_the_end_token(xval: XValTokenizer) -> None:
    model = fill_in(xval)
    head: Any = model.head
    head.tokens.weight.data.zero_()
    head.tokens.bias = torch.nn.Parameter(torch.zeros(xval.vocab_size))
    head.tokens.bias.data[xval.num_id] = 1.0
    head.number[2].weight.data.zero_()
    head.number[2].bias.data.fill_(-0.5)  # -(e^0.5 - 1) = -0.6487
    answers = answer(model, xval, TEXTS, "cpu", max_new_tokens=1, batch_size=2)
    assert answers == ["-0.65-0.65"] * 3  # [NUM] in both slots
    head.tokens.bias.data[xval.eos_id] = 2.0
    assert answer(model, xval, TEXTS, "cpu", max_new_tokens=1) == [""] * 3


def test_answers_do_not_depend_on_the_batch(xval: XValTokenizer) -> None:
    model = fill_in(xval)
    together = answer(model, xval, TEXTS, "cpu", max_new_tokens=1)
    assert together == [answer(model, xval, [t], "cpu", max_new_tokens=1)[0] for t in TEXTS]


def test_only_tokens_are_generated(digit: DigitTokenizer) -> None:
    with pytest.raises(UsageError, match=r"RegressionHead does not predict tokens"):
        generate(decoder(digit, RegressionHead), [[5]], 2)


def test_a_batch_needs_a_text(digit: DigitTokenizer) -> None:
    with pytest.raises(UsageError, match=r"batch_size=0"):
        answer(decoder(digit, RegressionHead), digit, TEXTS, "cpu", 1, batch_size=0)
