"""r/Jokes: predict how funny people found a joke, the NTL paper's regression on text (table 4)."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterable, Iterator
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any

from filelock import FileLock

from beyond_ce.data.base import PromptAnswerData
from beyond_ce.data.cache import Splits
from beyond_ce.data.example import Example
from beyond_ce.data.files import ROOT_VARIABLE, content_digest, data_folder, find_file, read_lines
from beyond_ce.data.sampling import bit_generator, sample_distinct
from beyond_ce.errors import RunError, UsageError
from beyond_ce.settings import COUNT, NO_LIMIT, PATH, SEED, TEXT, optional, takes
from beyond_ce.storage.writing import replacing

log = logging.getLogger(__name__)

CUE = "\nScore:"
"""Ends every prompt by default, to tell a decoder-only model that the joke is over."""

LARGEST_SCORE = 11

_SCORES = {str(score): score for score in range(LARGEST_SCORE + 1)}
_COMMIT = "46961119c2943a4f08cdc22ef8037ddbdbdd928b"
_URL = f"https://raw.githubusercontent.com/orionw/rJokesData/{_COMMIT}/data"

Row = tuple[str, int]
"""A joke and its score."""


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "give a text"


class RJokes(PromptAnswerData):
    """Jokes of Reddit's r/Jokes and their scores (Weller and Seppi, LREC 2020).

    Prompt: the joke and `cue`. Answer: the natural logarithm of its upvotes, rounded down, 0 to 11.
    The test split is "test"; "validation" is drawn from the file dev; "train" is the file train.
    If that file is missing, the rest of dev is used for training, with a warning.

    The texts are crude, so we never print them.

    NOTE: we drop training and validation jokes that are word for word in the test file, 0.9% of
    dev; the paper keeps the files as they are. Jokes are compared before they are cut.

    Args:
        validation_size: jokes of dev for validation.
        max_train: draw at most this many training jokes; null for all.
        max_test: draw at most this many test jokes; null for all.
        max_characters: cut longer jokes at the end; null for no limit. T5's 512 tokens are about
            2000 characters; 99% of the jokes have fewer.
        cue: ends every prompt; the paper has none, "".
        seed: seed of the draws; independent of the run's.
        cache_dir: where downloads and the Arrow files go, the latter in a folder named by
            `fingerprint`.
        path: a folder with {train,dev,test}.tsv, plain or .gz; null for the folder rjokes in
            $BEYOND_CE_DATA if there is one, else the files of github.com/orionw/rJokesData.
    """

    name = "rjokes"
    test_splits: tuple[str, ...] = ("test",)

    @takes(
        "dataset",
        validation_size=COUNT,
        max_train=NO_LIMIT,
        max_test=NO_LIMIT,
        max_characters=NO_LIMIT,
        cue=_text,
        seed=SEED,
        cache_dir=PATH,
        path=optional(TEXT),
    )
    def __init__(
        self,
        *,
        validation_size: int,
        max_train: int | None,
        max_test: int | None,
        max_characters: int | None,
        seed: int,
        cache_dir: str | Path,
        path: str | Path | None = None,
        cue: str = CUE,
    ) -> None:
        self.sizes = {
            "validation_size": validation_size,
            "max_train": max_train,
            "max_test": max_test,
            "max_characters": max_characters,
        }
        self.validation_size = validation_size
        self.max_train = max_train
        self.max_test = max_test
        self.max_characters = max_characters
        self.cue = cue
        self.seed = seed
        self.cache_dir = Path(cache_dir)
        self.folder = data_folder(path, self.name)
        if self.folder is not None:
            for stem in ("dev", "test"):
                find_file(self.folder, f"{stem}.tsv")

    def _definition(self) -> dict[str, Any]:
        return {
            "source": self._source,  # depends on whether there is a file train
            "seed": self.seed,
            **self.sizes,
            **({} if self.cue == CUE else {"cue": self.cue}),
        }

    @cached_property
    def _source(self) -> str:
        if self.folder is None:
            return f"rJokesData {_COMMIT}"
        digests = {
            stem: content_digest([path], self.cache_dir) for stem, path in self._files.items()
        }
        return " ".join(f"{stem} {digest}" for stem, digest in digests.items())

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The files dev and test, and train if it exists."""
        if self.folder is None:
            folder = self.cache_dir / "downloads" / f"rjokes-{_COMMIT[:16]}"
            return {stem: _download(stem, folder) for stem in ("dev", "test", "train")}
        files = {stem: find_file(self.folder, f"{stem}.tsv") for stem in ("dev", "test")}
        try:
            files["train"] = find_file(self.folder, "train.tsv")
        except UsageError:
            log.warning("%s has no file train.tsv: training on dev.tsv instead", self.folder)
        return files

    def _splits(self) -> Splits:
        rows = {stem: list(_read(path)) for stem, path in self._files.items()}
        test = rows["test"]
        tested = {text for text, _ in test}
        dev = [row for row in rows["dev"] if row[0] not in tested]
        if self.validation_size >= len(dev):
            raise UsageError(
                f"dataset.validation_size={self.validation_size} leaves none of the {len(dev)} "
                "jokes of dev that are not in test: lower it"
            )
        validation, rest = self._draw(dev, self.validation_size)
        held_out = tested | {text for text, _ in validation}
        train = [row for row in rows.get("train", rest) if row[0] not in held_out]
        yield "test", self._examples(self._draw(test, self.max_test)[0])
        yield "validation", self._examples(validation)
        yield "train", self._examples(self._draw(train, self.max_train)[0])

    def _draw(self, rows: list[Row], size: int | None) -> tuple[list[Row], list[Row]]:
        """A random sample of at most `size` rows, and the other rows; both in the file's order."""
        if size is None or size >= len(rows):
            return rows, []
        drawn = set(sample_distinct(bit_generator(self.seed), len(rows), size).tolist())
        return (
            [row for i, row in enumerate(rows) if i in drawn],
            [row for i, row in enumerate(rows) if i not in drawn],
        )

    def _examples(self, rows: Iterable[Row]) -> Iterator[Example]:
        for text, score in rows:
            yield Example(text[: self.max_characters] + self.cue, str(score), self.name)


def _read(path: Path) -> Iterator[Row]:
    """The lines `score<TAB>joke` of a file; errors give a line's number but not its text."""
    number = 0
    for number, line in read_lines(path):
        score, tab, text = line.partition("\t")
        if not tab:
            problem = "has no tab between a score and a joke"
        elif score not in _SCORES:
            problem = f"does not start with a score, a whole number from 0 to {LARGEST_SCORE}"
        else:
            yield text.strip(), _SCORES[score]
            continue
        raise UsageError(f"{path}, line {number} {problem}: use the files of orionw/rJokesData")
    if not number:
        raise RunError(f"{path} is empty: fetch it again")


def _download(stem: str, folder: Path) -> Path:
    """The file `<stem>.tsv.gz` in `folder`, downloaded if it is not there.

    Raises:
        RunError: it cannot be downloaded, for example without a network.
    """
    path = folder / f"{stem}.tsv.gz"
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{path.name}.lock"):  # another process may download the file
                if not path.exists():
                    with urllib.request.urlopen(f"{_URL}/{path.name}", timeout=60) as source:
                        content = source.read()
                    with replacing(path) as (new,):
                        new.write_bytes(content)
        except (OSError, HTTPException) as error:
            raise RunError(
                f"cannot fetch {_URL}/{path.name} ({error}); without a network, give a folder "
                f"with the files as dataset.path, or in ${ROOT_VARIABLE}"
            ) from error
    return path
