"""Tokens for digits at decimal places: the Regression Transformer (Born & Manica, 2023,
arXiv 2202.01338), a baseline of the NTL paper.

Shapes: V tokens, D dimensions of the embedding.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import torch

from beyond_ce.errors import UsageError
from beyond_ce.settings import FLAG, NO_LIMIT, SOURCE, optional, takes, whole
from beyond_ce.tokenizers.digit import DigitTokenizer
from beyond_ce.tokenizers.sentence_piece import DIGITS

_PLACES_OF_FLOAT32 = 37
_MARKS = "+-."
_MARK_OR_REST = re.compile("[-+.]|[^-+.]+")
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+")


class RegressionTransformerTokenizer(DigitTokenizer):
    """`DigitTokenizer`, but each token stands for a digit and its decimal place together.

    The token `_d_p_` is digit d at place p, with the value d * 10^p: "-13.05" is "-", `_1_1_`,
    `_3_0_`, ".", `_0_-1_`, `_5_-2_`. There are tokens for `max_places` places on either side of the
    point; digits further out are encoded as plain digits, so any number round-trips exactly. The
    ids of the place tokens follow all others (T5's sentinels included); other text is encoded as by
    `DigitTokenizer`.

    Decoding ignores places and writes the digits in their order: `_3_5_`, `_2_1_` is "32".

    NOTE: as in the Regression Transformer, signs and the point are tokens of their own. But we use
    tokens of the vocabulary, which a pretrained model knows, instead of new ones. The NTL authors'
    code does the same with the sign and drops the point, which makes "1" and "1.0" the same.

    Args:
        vocab_size, model: as for `DigitTokenizer`; the place tokens are added.
        max_places: places on either side of the decimal point.
        log_scale: whether number encodings are of log(1 + d * 10^p) instead of d * 10^p.

    Raises:
        UsageError: `max_places` is below 1, or the values of its places are beyond float32.
    """

    @takes(
        "tokenizer",
        vocab_size=NO_LIMIT,
        model=optional(SOURCE),
        max_places=whole(1, 300),
        log_scale=FLAG,
    )
    def __init__(
        self,
        vocab_size: int | None = None,
        model: str | None = None,
        max_places: int = 12,
        log_scale: bool = True,
    ) -> None:
        super().__init__(vocab_size, model)
        if not log_scale and max_places > _PLACES_OF_FLOAT32:
            raise UsageError(
                f"tokenizer.max_places={max_places} is more than float32 holds: give at most "
                f"{_PLACES_OF_FLOAT32}, or tokenizer.log_scale=true"
            )
        self.max_places = max_places
        self.log_scale = log_scale
        self._digit_ids: list[int] = []
        self._number_characters: dict[int, str] = {}  # the digits and points, by id
        self._mark_splits: dict[int, list[int]] = {}

    def _set_model(self, model: bytes) -> None:
        super()._set_model(model)
        pieces = self._pieces
        self._digit_ids = pieces.piece_to_id(list(DIGITS))
        # A vocabulary may have the point as a piece, as a byte, or not at all.
        points = set(pieces.piece_to_id([".", "<0x2E>"])) - {self.unk_id}
        digits = dict(zip(self._digit_ids, DIGITS, strict=True))
        self._number_characters = digits | dict.fromkeys(points, ".")
        self._mark_splits = {
            i: parts
            for i, piece in enumerate(pieces.id_to_piece(list(range(pieces.vocab_size()))))
            if len(piece) > 1 and piece[-1] in _MARKS and (parts := self._split_marks(piece))
        }

    def _split_marks(self, piece: str) -> list[int]:
        """Ids of a piece with signs and points split off; empty if the vocabulary lacks them."""
        for parts in (_MARK_OR_REST.findall(piece), list(piece)):
            ids = self._pieces.piece_to_id(parts)
            if self.unk_id not in ids:
                return ids
        return []

    @property
    def vocab_size(self) -> int:
        return self._first_place_token + 2 * self.max_places * len(DIGITS)

    @property
    def _first_place_token(self) -> int:
        return super().vocab_size

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [self._with_places(self._with_marks_split(ids)) for ids in super().encode(texts)]

    def _with_marks_split(self, ids: list[int]) -> list[int]:
        """Ids in which signs and points directly before a number are tokens of their own."""
        split: list[int] = []
        for i, following in zip(ids, [*ids[1:], self.eos_id], strict=False):
            before_number = following in self._number_characters
            split += self._mark_splits.get(i, (i,)) if before_number else (i,)
        return split

    def _with_places(self, ids: list[int]) -> list[int]:
        """Ids with the digits of numbers replaced by place tokens, up to `max_places`."""
        first = self._first_place_token + self.max_places * len(DIGITS)
        placed = list(ids)
        for match in _NUMBER.finditer("".join(self._number_characters.get(i, " ") for i in ids)):
            integer_digits = len(match[0].partition(".")[0])
            for k, digit in enumerate(match[0]):
                place = integer_digits - 1 - k if k < integer_digits else integer_digits - k
                if digit != "." and -self.max_places <= place < self.max_places:
                    placed[match.start() + k] = first + place * len(DIGITS) + int(digit)
        return placed

    def decode(self, ids: Iterable[int]) -> str:
        first = self._first_place_token
        places = range(first, self.vocab_size)
        return super().decode(
            self._digit_ids[(i - first) % len(DIGITS)] if i in places else i for i in map(int, ids)
        )

    def number_values(self) -> torch.Tensor:
        """float32 [V]: the digit without its place, as the NTL paper combines RT with NTL."""
        values = super().number_values()
        values[self._first_place_token :] = torch.arange(10).repeat(2 * self.max_places)
        return values

    def number_encodings(self, dim: int) -> torch.Tensor:
        """float32 [V, D]: NE(d, p, j) = (-1)^j x / (j + 1), x = d * 10^p, in dimension j of the
        place token `_d_p_` (Born & Manica, "numerical encodings"); zeros for all other tokens.

        NOTE: with `log_scale` x is log(1 + d * 10^p), which keeps the formula's decay over
        dimensions. The NTL authors' code takes the logarithm after dividing by j + 1, which makes
        large numbers nearly the same in all dimensions. Published code also scales the encodings
        to a maximum of 10 and shares a divisor between two dimensions; the formula does not.
        """
        places = torch.arange(-self.max_places, self.max_places, dtype=torch.float64)
        numbers = (10.0 ** places[:, None] * torch.arange(10)).flatten()
        if self.log_scale:
            numbers = numbers.log1p()
        j = torch.arange(dim)
        encodings = torch.zeros(self.vocab_size, dim)
        encodings[self._first_place_token :] = numbers[:, None] * (-1.0) ** j / (j + 1)
        return encodings

    def fingerprint(self) -> str:
        options = f"{super().fingerprint()} {self.max_places} {self.log_scale}"
        return hashlib.sha256(options.encode()).hexdigest()

    def _settings(self) -> dict[str, Any]:
        options = {"max_places": self.max_places, "log_scale": self.log_scale}
        return {**super()._settings(), **options}
