"""A token for every digit, as the NTL paper does with T5."""

from __future__ import annotations

import re

import sentencepiece

from beyond_ce.tokenizers.sentence_piece import DIGITS, SentencePieceTokenizer

_DIGIT_OR_REST = re.compile("[0-9]|[^0-9]+")


class DigitTokenizer(SentencePieceTokenizer):
    """Each digit is one token, and no token has more than one; only these ten have number values.

    Without `model`: trained like `SubwordTokenizer`, but with digits split. With `model`: encodes
    like T5, but replaces each piece with digits by smaller pieces of T5's vocabulary ("▁12" by "▁",
    "1", "2"), so pretrained embeddings stay valid. If a model generates "▁12" nevertheless, it is
    decoded as it stands.
    """

    split_digits = True

    def _replacements(self, pieces: sentencepiece.SentencePieceProcessor) -> dict[int, list[int]]:
        return {
            i: _split(pieces, piece)
            for i, piece in enumerate(pieces.id_to_piece(list(range(pieces.vocab_size()))))
            if len(piece) > 1 and not pieces.is_byte(i) and set(piece) & set(DIGITS)
        }

    def _number(self, piece: str) -> str:
        return piece if len(piece) == 1 else ""


def _split(pieces: sentencepiece.SentencePieceProcessor, piece: str) -> list[int]:
    """Ids of a piece's digits and of the text between them, letter by letter if necessary."""
    ids: list[int] = []
    for part in _DIGIT_OR_REST.findall(piece):
        part_id = pieces.piece_to_id(part)
        ids += pieces.piece_to_id(list(part)) if part_id == pieces.unk_id() else [part_id]
    return ids
