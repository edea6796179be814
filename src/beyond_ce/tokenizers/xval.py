"""One token for all numbers, with the value given separately: the tokenizer of xVal (Golkar et al.
2023, arXiv:2310.02989)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

import torch

from beyond_ce.data.numbers import NUMBER, number_value
from beyond_ce.errors import UsageError
from beyond_ce.settings import NO_LIMIT, SOURCE, optional, takes
from beyond_ce.tokenizers.sentence_piece import SentencePieceTokenizer


class XValTokenizer(SentencePieceTokenizer):
    """A number, with its sign and decimals, is the token [NUM]; other text is SentencePiece's.

    The ids alone lose the numbers. `split` also returns the numbers as they are written and
    `decode` accepts them; with them the round trip is exact for any text and any number of digits.
    Models read `token_numbers`, the nearest float64 values.

    Args:
        vocab_size: maximum number of pieces to learn, without [NUM].
        model: must be None, because no pretrained vocabulary has [NUM].

    Raises:
        UsageError: `model` is given.
    """

    split_digits = True  # has no effect: the pieces are learned from text without digits
    carries_numbers = True

    @takes(
        "tokenizer",
        vocab_size=NO_LIMIT,
        model=optional(SOURCE),
    )
    def __init__(self, vocab_size: int | None = None, model: str | None = None) -> None:
        if model is not None:
            raise UsageError(
                f"tokenizer.model={model}: xVal learns its own vocabulary, "
                "set tokenizer.model=null and tokenizer.vocab_size"
            )
        super().__init__(vocab_size)

    @property
    def num_id(self) -> int:
        """The id of [NUM]."""
        return self._pieces.vocab_size()

    @property
    def vocab_size(self) -> int:
        return self.num_id + 1

    def train(self, texts: Iterable[str]) -> None:
        super().train(part for text in texts for part in NUMBER.split(text))

    def split(self, text: str) -> tuple[list[int], list[str]]:
        """The ids of a text, and the numbers of its [NUM] tokens as they are written."""
        numbers = NUMBER.findall(text)
        first, *rest = super().encode(NUMBER.split(text))
        return [*first, *(i for part in rest for i in (self.num_id, *part))], numbers

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [self.split(text)[0] for text in texts]

    def token_numbers(self, texts: list[str]) -> list[list[float]]:
        """The value at each [NUM] token, NaN at all others."""
        return [self._values(*self.split(text)) for text in texts]

    def _values(self, ids: list[int], numbers: list[str]) -> list[float]:
        values = map(number_value, numbers)
        return [next(values) if i == self.num_id else float("nan") for i in ids]

    def decode(self, ids: Iterable[int], numbers: Sequence[str] = ()) -> str:
        """As for any tokenizer, with the [NUM] tokens replaced by `numbers`, in order.

        A [NUM] without a number is written as "[NUM]".
        """
        texts: list[str] = []
        part: list[int] = []
        remaining = iter(numbers)
        for i in takewhile(lambda i: i != self.eos_id, map(int, ids)):
            if i == self.num_id:
                texts += [super().decode(part), next(remaining, "[NUM]")]
                part = []
            else:
                part.append(i)
        return "".join([*texts, super().decode(part)])

    def number_values(self) -> torch.Tensor:
        """NaN for every token: the ids do not carry values (see `token_numbers`)."""
        return torch.full((self.vocab_size,), torch.nan)

    def _settings(self) -> dict[str, Any]:
        return {"vocab_size": self.max_vocab_size}
