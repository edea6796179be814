"""SentencePiece vocabularies: trained on our own data, or taken from pretrained models."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

import filelock
import sentencepiece
import torch

from beyond_ce.errors import RunError, UsageError
from beyond_ce.settings import NO_LIMIT, SOURCE, optional, takes
from beyond_ce.storage.writing import new_folder
from beyond_ce.tokenizers.base import Tokenizer

SPACE = "▁"  # how SentencePiece writes a space within a piece
DIGITS = "0123456789"
T5_SENTINELS = 100  # <extra_id_0> .. <extra_id_99>, which T5 adds to its SentencePiece model

_MODEL_FILE = "tokenizer.model"
_BOUNDARY = "\t"  # no piece contains or crosses it
_NUMBER_OR_REST = re.compile("[0-9]+|[^0-9]+")
_LONGEST_TEXT = 1 << 16  # characters; stays below `max_sentence_length` bytes with boundaries
TRAINING: dict[str, Any] = {
    # NOTE: T5's own vocabulary is a unigram model. On add_sub_multiple's few sentence forms unigram
    # splits words into letters (15.2 tokens per text, BPE 9.3, both with vocab_size=1024) and takes
    # four times as long to train.
    "model_type": "bpe",
    "pad_id": 0,
    "eos_id": 1,
    "unk_id": 2,
    "bos_id": -1,
    # Exact round trip: no normalisation, and bytes for characters without a piece.
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "add_dummy_prefix": False,
    "byte_fallback": True,
    "required_chars": SPACE + DIGITS,
    # No piece mixes a number with the text around it. `split_by_number` only separates digits from
    # letters, so "-5" and "1)" could still be pieces.
    "pretokenization_delimiter": _BOUNDARY,
    # A text too small for `vocab_size` pieces gives a smaller vocabulary.
    "hard_vocab_limit": False,
    # To bound the memory, SentencePiece samples from the stream of texts, with its own fixed seed.
    "input_sentence_size": 500_000,
    "shuffle_input_sentence": True,
    "max_sentence_length": 1 << 20,  # bytes; longer texts would be skipped silently
    "num_threads": 1,
}


def _train(texts: Iterable[str], settings: dict[str, Any]) -> bytes:
    """A serialized SentencePiece model; the same texts and settings give the same bytes."""
    model, size = io.BytesIO(), settings["vocab_size"]
    failures: list[BaseException] = []
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_with_boundaries(texts, failures),
            model_writer=model,
            minloglevel=2,
            **settings,
        )
    except RuntimeError as error:
        if failures:
            raise failures[0] from None
        needed = re.search(r"required_chars\. \d+ vs (\d+)", str(error))
        raise UsageError(
            f"tokenizer.vocab_size={size} is too small: set at least {needed[1]}, which the "
            "bytes and characters of the training texts need"
            if needed
            else f"no tokenizer with vocab_size={size} can be trained: "
            "the training texts are empty or too few"
        ) from error
    return model.getvalue()


def _with_boundaries(texts: Iterable[str], failures: list[BaseException]) -> Iterator[str]:
    """Texts in parts, with boundaries around numbers. Errors in reading the texts are stored in
    `failures`, because SentencePiece replaces them by its own error."""
    try:
        for text in texts:
            for start in range(0, len(text), _LONGEST_TEXT):
                part = text[start : start + _LONGEST_TEXT]
                yield _BOUNDARY + _BOUNDARY.join(_NUMBER_OR_REST.findall(part))
    except (Exception, KeyboardInterrupt) as error:
        failures.append(error)
        raise


@contextmanager
def _cache_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write the tokenizer cache {root}: {error.strerror}; set another cache_dir"
        ) from error


def _find_model(name: str, file: str) -> Path:
    """The SentencePiece file at a path, in a folder, or of a model on the Hugging Face hub."""
    path = Path(name).expanduser()
    if path.is_dir():
        # The releases in Llama's layout have theirs beside the folders of the models.
        above = path.resolve().parent / file
        beside = (path / "params.json").exists() and not (path / file).exists()
        path = above if beside and above.is_file() else path / file
    if path.is_file():
        return path
    # A late import, because only vocabularies from the hub need it.
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, file))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"tokenizer.model={name} is not a SentencePiece file, a folder with {file} or a model "
            "on the Hugging Face hub or in its local cache: give one of these"
        ) from error


class SentencePieceTokenizer(Tokenizer):
    """Base class of the tokenizers with a SentencePiece vocabulary.

    A vocabulary trained here round-trips any Unicode text exactly, control characters included.
    T5's normalises Unicode (NFKC), turns newlines and tabs into spaces and merges repeated spaces;
    characters that it lacks, such as '{', '}' and '<', come back as ' ⁇ '. Numbers (digits, signs,
    decimal points, single spaces) and all text made of its own pieces round-trip exactly.

    Args:
        vocab_size: maximum number of pieces to learn, including 3 special and 256 byte tokens;
            small texts give fewer. Ignored if `model` is given.
        model: a pretrained T5 vocabulary: a SentencePiece file, a folder with `spiece.model`, or
            a model's name on the Hugging Face hub. Read on first use.
    """

    pad_id = 0
    eos_id = 1
    unk_id = 2
    bos_id = 0

    split_digits: ClassVar[bool]
    training: ClassVar[dict[str, Any]] = TRAINING
    pretrained: ClassVar[str] = "T5"
    pretrained_file: ClassVar[str] = "spiece.model"

    @takes(
        "tokenizer",
        vocab_size=NO_LIMIT,
        model=optional(SOURCE),
    )
    def __init__(self, vocab_size: int | None = None, model: str | None = None) -> None:
        self.max_vocab_size = vocab_size
        self.model = model
        self._loaded: sentencepiece.SentencePieceProcessor | None = None
        self._replaced: dict[int, list[int]] = {}

    @property
    def _pieces(self) -> sentencepiece.SentencePieceProcessor:
        if self._loaded is None:
            if self.model is None:
                raise RuntimeError("call fit first: this tokenizer has no vocabulary yet")
            path = _find_model(self.model, self.pretrained_file)
            try:
                self._set_model(path.read_bytes())
            except (OSError, RuntimeError, ValueError) as error:
                raise UsageError(
                    f"tokenizer.model={self.model}: {path} is not a SentencePiece vocabulary like "
                    f"{self.pretrained}'s: give one that is"
                ) from error
        assert self._loaded is not None
        return self._loaded

    def _set_model(self, model: bytes) -> None:
        """Use this serialized SentencePiece model; ValueError if it lacks tokens that we need."""
        pieces = sentencepiece.SentencePieceProcessor()
        pieces.load_from_serialized_proto(model)
        self._read_layout(pieces)
        self._loaded = pieces
        self._replaced = self._replacements(pieces)

    def _read_layout(self, pieces: sentencepiece.SentencePieceProcessor) -> None:
        """ValueError if digits are missing or the special tokens do not have the expected ids."""
        special = (pieces.pad_id(), pieces.eos_id(), pieces.unk_id())
        alphabet = pieces.piece_to_id([SPACE, *DIGITS])
        if special != (self.pad_id, self.eos_id, self.unk_id) or self.unk_id in alphabet:
            raise ValueError("not laid out as T5's vocabulary")

    def _replacements(self, pieces: sentencepiece.SentencePieceProcessor) -> dict[int, list[int]]:
        """The ids that `encode` replaces, with the ids that it puts in their place."""
        return {}

    @property
    def vocab_size(self) -> int:
        return self._pieces.vocab_size() + (0 if self.model is None else T5_SENTINELS)

    def fit(self, texts: Iterable[str], cache_dir: Path, key: str) -> SentencePieceTokenizer:
        if self.model is not None:
            _ = self._pieces
            return self
        settings = {
            **self.training,
            **self._settings(),
            "class": type(self).__name__,
            "sentencepiece": sentencepiece.__version__,
            "key": key,
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        root = Path(cache_dir) / "tokenizers"
        folder = root / digest
        if not folder.exists():  # it appears whole, and reading it needs no lock
            with _cache_errors(root):
                root.mkdir(parents=True, exist_ok=True)
                lock = filelock.FileLock(root / f"{digest}.lock").acquire()
            with lock:
                if not folder.exists():
                    self.train(texts)
                    with _cache_errors(root), new_folder(folder) as new:
                        self.save(new)
                    return self
        self._set_model(type(self).load(folder)._pieces.serialized_model_proto())
        return self

    def train(self, texts: Iterable[str]) -> None:
        """Learn the vocabulary from the texts, without the cache.

        Raises:
            UsageError: no vocabulary can be learned from these texts with this `vocab_size`.
        """
        if self.max_vocab_size is None or self.max_vocab_size < 1:
            raise UsageError(
                f"tokenizer.vocab_size={self.max_vocab_size}: give a positive number of pieces"
            )
        settings = {"vocab_size": self.max_vocab_size, "split_digits": self.split_digits}
        model = _train(texts, {**self.training, **settings})
        try:
            self._set_model(model)
        except ValueError as error:
            raise UsageError(
                "no tokenizer can be trained: the training texts have almost nothing but digits"
            ) from error

    def encode(self, texts: list[str]) -> list[list[int]]:
        batch = self._pieces.encode(texts, num_threads=1)
        if self._replaced:
            replacement = self._replaced.get
            return [[new for old in ids for new in replacement(old) or (old,)] for ids in batch]
        if self.model is None:
            for i, text in enumerate(texts):
                if SPACE in text:
                    batch[i] = self._encode_with_space_symbol(text)
        return batch

    def _encode_with_space_symbol(self, text: str) -> list[int]:
        """Ids of a text that contains "▁". It is encoded as bytes, or it would become a space."""
        literal = [self._pieces.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]
        first, *rest = self._pieces.encode(text.split(SPACE))
        return [*first, *(i for part in rest for i in (*literal, *part))]

    def decode(self, ids: Iterable[int]) -> str:
        known = range(self._pieces.vocab_size())
        answer = takewhile(lambda i: i != self.eos_id, map(int, ids))
        return self._pieces.decode([i for i in answer if i in known and i != self.pad_id])

    def number_values(self) -> torch.Tensor:
        values = torch.full((self.vocab_size,), torch.nan)
        for i in range(self._pieces.vocab_size()):
            digits = self._number(self._pieces.id_to_piece(i))
            if digits.isascii() and digits.isdecimal():
                values[i] = float(digits)
        return values

    def _number(self, piece: str) -> str:
        """The part of a piece that must be all digits if the piece is a number."""
        return piece.removeprefix(SPACE)

    def fingerprint(self) -> str:
        model = self._pieces.serialized_model_proto()
        return hashlib.sha256(type(self).__name__.encode() + model).hexdigest()

    def _settings(self) -> dict[str, Any]:
        return {"vocab_size": self.max_vocab_size, "model": self.model}

    def _save_vocabulary(self, folder: Path) -> None:
        (folder / _MODEL_FILE).write_bytes(self._pieces.serialized_model_proto())

    def _load_vocabulary(self, folder: Path) -> None:
        self._set_model((folder / _MODEL_FILE).read_bytes())
