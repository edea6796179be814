"""SentencePiece as Llama uses it, for source code and prose: byte pairs, bytes, single digits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import sentencepiece

from beyond_ce.tokenizers.sentence_piece import TRAINING, SentencePieceTokenizer


class BPETokenizer(SentencePieceTokenizer):
    """Byte-pair encoding that keeps whitespace, as for Llama (Touvron et al. 2023,
    arXiv:2302.13971).

    Every digit and every newline is a token of its own, a run of spaces is one token or few, and
    what the vocabulary lacks is spelled in bytes.

    Without `model`: learned from the lines of the training texts; any text comes back exactly.

    With `model`: Llama 2's vocabulary, or another with bytes and an end token, such as one that
    this class has saved. Encoding is SentencePiece's own, which for Llama puts a space before each
    text; `decode` takes it away again and gives a space for "▁", else texts come back exactly.
    Whoever wants the beginning token puts `bos_id` before the ids. Llama 2 has no padding token:
    `unk_id` pads, which bytes leave without use, while the end token must stay a label. Special
    tokens have their ids once the vocabulary is read, by `fit` at the latest.

    Args:
        vocab_size: pieces to learn at most, the 3 special and 256 byte tokens included; texts
            that do not yield as many give fewer. Without effect if `model` is given.
        model: a pretrained vocabulary: a SentencePiece file, a folder with `tokenizer.model`, or a
            model's name on the Hugging Face hub. Read when first needed.
    """

    split_digits = True
    training: ClassVar[dict[str, Any]] = {
        **TRAINING,
        # Indentation: without it every space of a run is cut off on its own.
        "allow_whitespace_only_pieces": True,
        # Lines hold no newline to learn from.
        "required_chars": TRAINING["required_chars"] + "\n",
    }
    pretrained = "Llama 2"
    pretrained_file = "tokenizer.model"

    def __init__(self, vocab_size: int | None = None, model: str | None = None) -> None:
        super().__init__(vocab_size, model)
        if model is not None:
            # No valid ids, rather than wrong ones, until the vocabulary is read.
            self.pad_id = self.eos_id = self.unk_id = self.bos_id = -1

    def _read_layout(self, pieces: sentencepiece.SentencePieceProcessor) -> None:
        if self.model is None:
            super()._read_layout(pieces)
            return
        if pieces.eos_id() < 0 or not pieces.is_byte(pieces.piece_to_id("<0x00>")):
            raise ValueError("no end token or no bytes")
        self.unk_id = pieces.unk_id()
        self.eos_id = pieces.eos_id()
        self.pad_id = self.unk_id if pieces.pad_id() < 0 else pieces.pad_id()
        self.bos_id = self.pad_id if pieces.bos_id() < 0 else pieces.bos_id()

    @property
    def vocab_size(self) -> int:
        return self._pieces.vocab_size()

    def train(self, texts: Iterable[str]) -> None:
        super().train(line for text in texts for line in text.split("\n"))
