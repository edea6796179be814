"""A language of digits, a space and an end, and a model whose every logit is written down."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import datasets
import pytest
import torch
from torch import Tensor, nn

from beyond_ce.batches.batch import Batch, encoder_decoder_batch

START, END, SPACE, DIGIT = 0, 1, 2, 3
VOCABULARY = DIGIT + 10


class Characters:
    """Ids: 0 the start and padding, 1 the end, 2 a space, 3 to 12 the digits 0 to 9."""

    eos_id = END
    vocab_size = VOCABULARY

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [[SPACE if c == " " else DIGIT + int(c) for c in text] for text in texts]

    def number_values(self) -> Tensor:
        values = torch.full((VOCABULARY,), float("nan"))
        values[DIGIT:] = torch.arange(10.0)
        return values


class Bigrams(nn.Module):
    """Logits of the next token from the last one alone: a table [V, V]."""

    vocab_size = VOCABULARY

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table
        self.head = SimpleNamespace(target="tokens", logits=lambda hidden: hidden)

    def make_batch(self, prompts: list[list[int]], answers: list[list[int]]) -> Batch:
        return encoder_decoder_batch(prompts, answers, pad_id=START, start_id=START)

    def trunk(self, batch: Batch) -> Tensor:
        return self.table[batch.decoder_input_ids]


@pytest.fixture
def tokenizer() -> Characters:
    return Characters()


@pytest.fixture
def uniform() -> Bigrams:
    """All tokens are equally probable after any, until a test changes `table`."""
    return Bigrams(torch.zeros(VOCABULARY, VOCABULARY))


@pytest.fixture
def examples() -> Callable[..., datasets.Dataset]:
    """`examples("1", "2")` has two examples of one task with these answers."""
    return lambda *answers: datasets.Dataset.from_list(
        [{"prompt": "1", "answer": answer, "task": "t"} for answer in answers]
    )
