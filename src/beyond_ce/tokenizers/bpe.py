"""Byte-pair encoding as in Llama, for code and prose, with byte fallback and single digits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import sentencepiece

from beyond_ce.settings import NO_LIMIT, SOURCE, optional, takes
from beyond_ce.tokenizers.sentence_piece import TRAINING, SentencePieceTokenizer


class BPETokenizer(SentencePieceTokenizer):
    """SentencePiece byte-pair encoding that keeps whitespace, as in Llama (Touvron et al. 2023,
    arXiv:2302.13971).

    Every digit and every newline is a token of its own, a run of spaces is one or a few tokens, and
    characters that are not in the vocabulary are encoded as bytes.

    Without `model`: learned from the lines of the training texts; any text round-trips exactly.

    With `model`: Llama 2's vocabulary, or another one with bytes and an end token, such as one that
    this class has saved. Encoding is SentencePiece's own, which for Llama adds a space before each
    text. `decode` removes that space and turns "▁" into a space; all other text round-trips
    exactly. We add no beginning token; put `bos_id` before the ids if you want it. Llama 2 has no
    padding token, so we pad with `unk_id`, which byte fallback leaves unused (the end token must
    stay a label). The ids of special tokens are set when the vocabulary is read, by `fit` at the
    latest.

    Args:
        vocab_size: maximum number of pieces to learn, including 3 special and 256 byte tokens;
            small texts give fewer. Ignored if `model` is given.
        model: a pretrained vocabulary: a SentencePiece file, a folder with `tokenizer.model`, or a
            model's name on the Hugging Face hub. Read on first use.
    """

    split_digits = True
    training: ClassVar[dict[str, Any]] = {
        **TRAINING,
        # For indentation: otherwise every space of a run is a piece of its own.
        "allow_whitespace_only_pieces": True,
        # The texts are split into lines, so the newline cannot be learned.
        "required_chars": TRAINING["required_chars"] + "\n",
    }
    pretrained = "Llama 2"
    pretrained_file = "tokenizer.model"

    @takes(
        "tokenizer",
        vocab_size=NO_LIMIT,
        model=optional(SOURCE),
    )
    def __init__(self, vocab_size: int | None = None, model: str | None = None) -> None:
        super().__init__(vocab_size, model)
        if model is not None:
            # Invalid ids rather than wrong ones until the vocabulary is read.
            self.pad_id = self.eos_id = self.unk_id = self.bos_id = -1

    def _read_layout(self, pieces: sentencepiece.SentencePieceProcessor) -> None:
        if self.model is None:
            super()._read_layout(pieces)
            return
        if pieces.eos_id() < 0 or not pieces.is_byte(pieces.piece_to_id("<0x00>")):
            raise ValueError("no end token or no byte tokens")
        self.unk_id = pieces.unk_id()
        self.eos_id = pieces.eos_id()
        self.pad_id = self.unk_id if pieces.pad_id() < 0 else pieces.pad_id()
        self.bos_id = self.pad_id if pieces.bos_id() < 0 else pieces.bos_id()

    @property
    def vocab_size(self) -> int:
        return self._pieces.vocab_size()

    def train(self, texts: Iterable[str]) -> None:
        super().train(line for text in texts for line in text.split("\n"))
