"""Loads a model and its tokenizer from the folder of a run or of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from beyond_ce.checkpoints import read_checkpoint
from beyond_ce.errors import UsageError
from beyond_ce.models import LanguageModel
from beyond_ce.runs.assembly import load_run
from beyond_ce.tokenizers import BPETokenizer, PretrainedTokenizer, Tokenizer


@dataclass(frozen=True)
class Loaded:
    """What `load` returns.

    Attributes:
        model: on the CPU, with the precision of its file.
        start: tokens that every text starts with.
        end_ids: tokens that end a text: the tokenizer's, and others that a checkpoint names.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    start: list[int]
    end_ids: list[int]

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, the `start` tokens included."""
        return [[*self.start, *ids] for ids in self.tokenizer.encode(texts)]


def load(folder: Path, checkpoint: str = "last", tokenizer: Path | None = None) -> Loaded:
    """The model in a run's folder, or in a checkpoint's of any layout (see `read_checkpoint`).

    For a checkpoint in Meta's layout, texts start with the tokenizer's beginning-of-sequence token;
    in transformers' layout, with what its tokenizer puts there, if anything; for models trained
    here, with nothing.

    The releases have one `tokenizer.model` beside the folders of their models; it is found there.

    Args:
        checkpoint: of a run, last or best.
        tokenizer: path of a checkpoint's tokenizer, if it is not in the checkpoint's folder: a
            `tokenizer.model`, a folder with one or with transformers' `tokenizer.json`, or a run's
            folder.

    Raises:
        UsageError: there is no such model, or no tokenizer that fits it.
        RunError: a file is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}: give that of a run or of a checkpoint")
    if (folder / "config.yaml").exists():
        if tokenizer is not None:
            raise UsageError(f"{folder} is a run and has its own tokenizer: leave yours out")
        model, run_tokenizer, _ = load_run(folder, checkpoint)
        return Loaded(model, run_tokenizer, [], [run_tokenizer.eos_id])
    path = find_tokenizer(folder) if tokenizer is None else tokenizer
    saved = path / "tokenizer"  # by a run
    loaded = Tokenizer.load(saved) if saved.is_dir() else _read_tokenizer(path)
    source = read_checkpoint(folder)
    decoder = source.model
    if loaded.vocab_size > decoder.vocab_size:
        raise UsageError(
            f"the tokenizer in {path} has {loaded.vocab_size} tokens, the model in {folder} "
            f"{decoder.vocab_size}: give the tokenizer that the model was trained with"
        )
    ends = [loaded.eos_id, *source.end_ids]
    start = [] if saved.is_dir() else _start(loaded)
    return Loaded(decoder, loaded, start, list(dict.fromkeys(ends)))


def _start(tokenizer: Tokenizer) -> list[int]:
    """The tokens with which the texts of a checkpoint from elsewhere start."""
    if isinstance(tokenizer, PretrainedTokenizer):
        return tokenizer.start_ids
    return [] if tokenizer.bos_id == tokenizer.pad_id else [tokenizer.bos_id]


def find_tokenizer(folder: Path) -> Path:
    """Where a checkpoint's tokenizer is: in its folder or, for one in Llama's layout without a
    tokenizer of its own, the `tokenizer.model` one folder up."""
    names = ("tokenizer", BPETokenizer.pretrained_file, "tokenizer.json")
    above = folder.resolve().parent / BPETokenizer.pretrained_file
    own = any((folder / name).exists() for name in names)
    if own or not (folder / "params.json").exists() or not above.is_file():
        return folder
    return above


def _read_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer in the format of SentencePiece or transformers."""
    tokenizer: Tokenizer
    if path.is_file() or (path / BPETokenizer.pretrained_file).exists():
        tokenizer = BPETokenizer(model=str(path))
    elif (path / "tokenizer.json").exists():
        tokenizer = PretrainedTokenizer(str(path))
    else:
        raise UsageError(
            f"{path} has no tokenizer: put its tokenizer.model there, or give its path"
        )
    return tokenizer.fit([], Path(), "")  # there is nothing to learn or to cache
