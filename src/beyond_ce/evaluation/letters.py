"""Texts of which every letter is a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from beyond_ce.errors import UsageError

if TYPE_CHECKING:
    from beyond_ce.tokenizers.base import Tokenizer


def one_token_per_letter(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts, one per character.

    Raises:
        UsageError: the tokenizer merges characters, or splits them.
    """
    tokens = tokenizer.encode(list(texts))
    for text, ids in zip(texts, tokens, strict=True):
        if len(text) != len(ids):
            raise UsageError(
                f"{type(tokenizer).__name__} gives {len(ids)} tokens for a text of {len(text)} "
                "letters, and this evaluator needs one per letter: choose tokenizer=byte"
            )
    return tokens


def letter_ids(tokenizer: Tokenizer, count: int) -> list[int]:
    """The token of each of the first `count` letters a, b, c and so on.

    Raises:
        UsageError: the tokenizer has no single token for one of them.
    """
    letters = [chr(ord("a") + i) for i in range(count)]
    return [ids[0] for ids in one_token_per_letter(tokenizer, letters)]
