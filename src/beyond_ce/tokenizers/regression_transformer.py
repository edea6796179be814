"""Digits that know their place: the Regression Transformer (Born & Manica, 2023, arXiv 2202.01338)
as the NTL paper's baseline.

Shapes: V tokens, D dimensions of the embedding.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import torch

from beyond_ce.errors import check_at_least_one
from beyond_ce.tokenizers.digit import DigitTokenizer
from beyond_ce.tokenizers.sentence_piece import DIGITS

_MARKS = "+-."
_MARK_OR_REST = re.compile("[-+.]|[^-+.]+")
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+")


class RegressionTransformerTokenizer(DigitTokenizer):
    """`DigitTokenizer`, save that one token stands for a digit and its decimal place together.

    The token `_d_p_` is digit d at place p, worth d * 10^p: "-13.05" is "-", `_1_1_`, `_3_0_`,
    ".", `_0_-1_`, `_5_-2_`. There are tokens for `max_places` places on either side of the point;
    digits further out stay the digits of the vocabulary, so that any number comes back exactly.
    The place tokens' ids follow all others (T5's sentinels included), and text encodes as before.

    Decoding writes digits in the order they come and puts nothing between them, whatever their
    places say: a model that generates `_3_5_`, `_2_1_` has written "32".

    NOTE: signs and the point are tokens of their own, but the vocabulary's rather than new ones as
    in the Regression Transformer, so that a pretrained model knows them; the NTL authors' code does
    so with the sign and drops the point, with which "1" and "1.0" would be the same.

    Args:
        vocab_size, model: as for `DigitTokenizer`; the place tokens come on top.
        max_places: places on either side of the decimal point.
        log_scale: number encodings of log(1 + d * 10^p) in place of d * 10^p.

    Raises:
        UsageError: `max_places` is below 1.
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        model: str | None = None,
        max_places: int = 12,
        log_scale: bool = True,
    ) -> None:
        check_at_least_one("tokenizer", max_places=max_places)
        super().__init__(vocab_size, model)
        self.max_places = max_places
        self.log_scale = log_scale
        self._digits: list[int] = []
        self._spelled: dict[int, str] = {}
        self._parted: dict[int, list[int]] = {}

    def _use(self, model: bytes) -> None:
        super()._use(model)
        pieces = self._pieces
        self._digits = pieces.piece_to_id(list(DIGITS))
        # A vocabulary may have the point as a piece, as a byte, or not at all.
        points = set(pieces.piece_to_id([".", "<0x2E>"])) - {self.unk_id}
        self._spelled = dict(zip(self._digits, DIGITS, strict=True)) | dict.fromkeys(points, ".")
        self._parted = {
            i: parts
            for i, piece in enumerate(pieces.id_to_piece(list(range(pieces.vocab_size()))))
            if len(piece) > 1 and piece[-1] in _MARKS and (parts := self._part(piece))
        }

    def _part(self, piece: str) -> list[int]:
        """Ids of a piece with its signs and points apart, none if the vocabulary lacks them."""
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
        return [self._with_places(self._marks_apart(ids)) for ids in super().encode(texts)]

    def _marks_apart(self, ids: list[int]) -> list[int]:
        """Ids in which signs and points directly before a number share no token with other text."""
        apart: list[int] = []
        for i, following in zip(ids, [*ids[1:], self.eos_id], strict=False):
            before_number = following in self._spelled
            apart += self._parted.get(i, (i,)) if before_number else (i,)
        return apart

    def _with_places(self, ids: list[int]) -> list[int]:
        """Ids with the digits of numbers replaced by place tokens, as far as there are any."""
        first = self._first_place_token + self.max_places * len(DIGITS)
        placed = list(ids)
        for match in _NUMBER.finditer("".join(self._spelled.get(i, " ") for i in ids)):
            whole = len(match[0].partition(".")[0])
            for k, digit in enumerate(match[0]):
                place = whole - 1 - k if k < whole else whole - k
                if digit != "." and -self.max_places <= place < self.max_places:
                    placed[match.start() + k] = first + place * len(DIGITS) + int(digit)
        return placed

    def decode(self, ids: Iterable[int]) -> str:
        first = self._first_place_token
        places = range(first, self.vocab_size)
        return super().decode(
            self._digits[(i - first) % len(DIGITS)] if i in places else i for i in map(int, ids)
        )

    def number_values(self) -> torch.Tensor:
        """float32 [V]: the digit alone, whatever its place, as the NTL paper pairs RT with NTL."""
        values = super().number_values()
        values[self._first_place_token :] = torch.arange(10).repeat(2 * self.max_places)
        return values

    def number_encodings(self, dim: int) -> torch.Tensor:
        """float32 [V, D]: NE(d, p, j) = (-1)^j x / (j + 1), x = d * 10^p, in dimension j of the
        place token `_d_p_` (Born & Manica, "numerical encodings"); zeros for all other tokens.

        NOTE: with `log_scale` x is log(1 + d * 10^p), so that the decay over dimensions stays the
        formula's. The NTL authors' code takes the logarithm after dividing by j + 1, which leaves
        large numbers nearly the same in all dimensions. Published code also scales the encodings
        to a largest value of 10 and shares a divisor between two dimensions; the formula does not.
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
        own = {"max_places": self.max_places, "log_scale": self.log_scale}
        return {**super()._settings(), **own}
