"""Pieces of words and of numbers: T5's default, and the NTL paper's baseline tokenizer."""

from __future__ import annotations

from beyond_ce.tokenizers.sentence_piece import SentencePieceTokenizer


class SubwordTokenizer(SentencePieceTokenizer):
    """Numbers are cut into pieces of one or more digits, as frequent in the training texts.

    Without `model`, a piece with a digit is all digits. With `model`, T5's vocabulary as it is,
    in which "12" and "▁12" are both tokens of value 12 and "1st" is a token of none.
    """

    split_digits = False
