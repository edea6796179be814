"""Every digit its own token, as the NTL paper does with T5."""

from __future__ import annotations

import re

import sentencepiece

from beyond_ce.tokenizers.sentence_piece import DIGITS, SentencePieceTokenizer

_DIGIT_OR_REST = re.compile("[0-9]|[^0-9]+")


class DigitTokenizer(SentencePieceTokenizer):
    """Each digit is one token and no token holds more; only these ten have number values.

    Without `model`: trained as `SubwordTokenizer`, save that digits are split. With `model`: T5's
    text as T5 encodes it, save that each piece with digits is replaced by existing smaller ones
    ("▁12" by "▁", "1", "2"), so that pretrained embeddings stay valid. A model that generates
    "▁12" all the same is decoded as written.
    """

    split_digits = True

    def _rewrite(self, pieces: sentencepiece.SentencePieceProcessor) -> dict[int, list[int]]:
        return {
            i: _split(pieces, piece)
            for i, piece in enumerate(pieces.id_to_piece(list(range(pieces.vocab_size()))))
            if len(piece) > 1 and not pieces.is_byte(i) and set(piece) & set(DIGITS)
        }

    def _number(self, piece: str) -> str:
        return piece if len(piece) == 1 else ""


def _split(pieces: sentencepiece.SentencePieceProcessor, piece: str) -> list[int]:
    """Ids of a piece's digits and of what lies between them, letter by letter at worst."""
    ids: list[int] = []
    for part in _DIGIT_OR_REST.findall(piece):
        whole = pieces.piece_to_id(part)
        ids += pieces.piece_to_id(list(part)) if whole == pieces.unk_id() else [whole]
    return ids
