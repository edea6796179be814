"""Pieces of words and numbers: T5's default, and the NTL paper's baseline tokenizer."""

from __future__ import annotations

from beyond_ce.tokenizers.sentence_piece import SentencePieceTokenizer


class SubwordTokenizer(SentencePieceTokenizer):
    """Numbers are split into pieces of one or more digits, by their frequency in training texts.

    Without `model`, a piece with a digit is all digits. With `model`, it is T5's unchanged
    vocabulary, in which "12" and "▁12" both have the value 12 and "1st" has none.
    """

    split_digits = False
