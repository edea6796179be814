"""A model with its tokenizer from a folder, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from beyond_ce.checkpoints import load_decoder
from beyond_ce.errors import UsageError
from beyond_ce.models import LanguageModel
from beyond_ce.runs.assembly import load_run
from beyond_ce.tokenizers import BPETokenizer, PretrainedTokenizer, Tokenizer


@dataclass(frozen=True)
class Loaded:
    """What `load` finds.

    Attributes:
        model: on the CPU, with the precision of its file.
        start: tokens that every text starts with.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    start: list[int]

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, its start included."""
        return [[*self.start, *ids] for ids in self.tokenizer.encode(texts)]


def load(folder: Path, checkpoint: str = "last", tokenizer: Path | None = None) -> Loaded:
    """The model in a run's folder, or in a checkpoint's of any layout (see `read_checkpoint`).

    Texts start with the tokenizer's beginning token where the tokenizer came with a checkpoint
    from elsewhere, as Llama's; models trained here see none.

    Args:
        checkpoint: of a run, last or best.
        tokenizer: where a checkpoint's tokenizer is, if not in its folder: `tokenizer.model`, or
            a folder with it or with transformers' `tokenizer.json`, or of a run.

    Raises:
        UsageError: there is no such model, or no tokenizer that fits it.
        RunError: a file is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}: give that of a run or of a checkpoint")
    if (folder / "config.yaml").exists():
        if tokenizer is not None:
            raise UsageError(f"{folder} is a run and has its own tokenizer: give no other")
        model, own, _ = load_run(folder, checkpoint)
        return Loaded(model, own, [])
    place = folder if tokenizer is None else tokenizer
    ours = place / "tokenizer"
    found = Tokenizer.load(ours) if ours.is_dir() else _read_tokenizer(place)
    decoder = load_decoder(folder)
    if found.vocab_size > decoder.vocab_size:
        raise UsageError(
            f"the tokenizer in {place} has {found.vocab_size} tokens, the model in {folder} "
            f"{decoder.vocab_size}: give the tokenizer that the model was trained with"
        )
    begins = not ours.is_dir() and found.bos_id != found.pad_id
    return Loaded(decoder, found, [found.bos_id] if begins else [])


def _read_tokenizer(place: Path) -> Tokenizer:
    """A tokenizer in a format that is not ours."""
    theirs: Tokenizer
    if place.is_file() or (place / BPETokenizer.pretrained_file).exists():
        theirs = BPETokenizer(model=str(place))
    elif (place / "tokenizer.json").exists():
        theirs = PretrainedTokenizer(str(place))
    else:
        raise UsageError(
            f"{place} has no tokenizer: put its tokenizer.model there, or say where it is"
        )
    return theirs.fit([], Path(), "")  # there is nothing to learn, nor to keep
