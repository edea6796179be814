"""r/Jokes: how funny a joke was found, the NTL paper's regression of text (table 4)."""

from __future__ import annotations

import logging
import os
import urllib.request
from collections.abc import Iterable, Iterator
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any

from beyond_ce.data.base import PromptAnswerData
from beyond_ce.data.cache import Splits
from beyond_ce.data.drawing import distinct, raw_bits
from beyond_ce.data.example import Example
from beyond_ce.data.files import ROOT_VARIABLE, content_digest, data_folder, find_file, read_lines
from beyond_ce.errors import RunError, UsageError, check_at_least_one

log = logging.getLogger(__name__)

CUE = "\nScore:"
"""Ends every prompt, so that a decoder-only model knows that the joke is over."""

LARGEST_SCORE = 11

_SCORES = {str(score): score for score in range(LARGEST_SCORE + 1)}
_COMMIT = "46961119c2943a4f08cdc22ef8037ddbdbdd928b"
_URL = f"https://raw.githubusercontent.com/orionw/rJokesData/{_COMMIT}/data"

Row = tuple[str, int]
"""A joke and its score."""


class RJokes(PromptAnswerData):
    """Jokes of Reddit's r/Jokes and their scores (Weller and Seppi, LREC 2020).

    Prompt: the joke and `CUE`. Answer: the natural logarithm of its upvotes, rounded down, 0 to 11.
    The test split is "test"; "validation" is drawn from the file dev; "train" is the file train.
    Where that file is missing, the rest of dev is for training, and a warning says so.

    The texts are crude: nothing here prints one.

    NOTE: training and validation leave out jokes that the test file has word for word, 0.9% of
    dev; the paper keeps the files as they are. Jokes are compared before they are cut.

    Args:
        validation_size: jokes of dev for validation.
        max_train: draw so many training jokes; null for all.
        max_test: draw so many test jokes; null for all.
        max_characters: longer jokes lose their end; null for none. T5's 512 tokens are about 2000
            characters; 99% of the jokes have fewer.
        seed: of the draws; independent of the seed of a run.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`, and downloads.
        path: a folder with {train,dev,test}.tsv, plain or .gz; null for the folder rjokes in
            $BEYOND_CE_DATA if there is one, else the files of github.com/orionw/rJokesData.
    """

    name = "rjokes"
    test_splits: tuple[str, ...] = ("test",)

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
    ) -> None:
        self.sizes = {
            "validation_size": validation_size,
            "max_train": max_train,
            "max_test": max_test,
            "max_characters": max_characters,
        }
        check_at_least_one("dataset", **self.sizes)
        self.validation_size = validation_size
        self.max_train = max_train
        self.max_test = max_test
        self.max_characters = max_characters
        self.seed = seed
        self.cache_dir = Path(cache_dir)
        self.folder = data_folder(path, self.name)
        if self.folder is not None:
            for stem in ("dev", "test"):
                find_file(self.folder, f"{stem}.tsv")

    def _definition(self) -> dict[str, Any]:
        return {
            "source": self._source,  # another one where there is no file train
            "seed": self.seed,
            **self.sizes,
        }

    @cached_property
    def _source(self) -> str:
        if self.folder is None:
            return f"rJokesData {_COMMIT}"
        return " ".join(f"{stem} {content_digest([path])}" for stem, path in self._files.items())

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The files dev, test and, if there is one, train."""
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
                "jokes of dev that test has not: lower it"
            )
        validation, rest = self._drawn(dev, self.validation_size)
        held_out = tested | {text for text, _ in validation}
        train = [row for row in rows.get("train", rest) if row[0] not in held_out]
        yield "test", self._examples(self._drawn(test, self.max_test)[0])
        yield "validation", self._examples(validation)
        yield "train", self._examples(self._drawn(train, self.max_train)[0])

    def _drawn(self, rows: list[Row], most: int | None) -> tuple[list[Row], list[Row]]:
        """At most so many rows, and the others; both in the order of the file."""
        if most is None or most >= len(rows):
            return rows, []
        drawn = set(distinct(raw_bits(self.seed), len(rows), most).tolist())
        return (
            [row for i, row in enumerate(rows) if i in drawn],
            [row for i, row in enumerate(rows) if i not in drawn],
        )

    def _examples(self, rows: Iterable[Row]) -> Iterator[Example]:
        for text, score in rows:
            yield Example(text[: self.max_characters] + CUE, str(score), self.name)


def _read(path: Path) -> Iterator[Row]:
    """The lines `score<TAB>joke` of a file; messages give a line's number and never its text."""
    for number, line in read_lines(path):
        score, tab, text = line.partition("\t")
        if not tab:
            problem = "has no tab between a score and a joke"
        elif score not in _SCORES:
            problem = f"does not begin with a score, a whole number from 0 to {LARGEST_SCORE}"
        else:
            yield text.strip(), _SCORES[score]
            continue
        raise UsageError(f"{path}, line {number} {problem}: give the files of orionw/rJokesData")


def _download(stem: str, folder: Path) -> Path:
    """The file of that stem in `folder`, fetched if it is not there.

    Raises:
        RunError: it cannot be had, mostly for want of a network.
    """
    path = folder / f"{stem}.tsv.gz"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.partial")  # another may fetch it as well
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(f"{_URL}/{path.name}", timeout=60) as source:
                partial.write_bytes(source.read())
            partial.replace(path)
        except (OSError, HTTPException) as error:
            raise RunError(
                f"cannot fetch {_URL}/{path.name} ({error}); without a network, give a folder "
                f"with the files as dataset.path, or in ${ROOT_VARIABLE}"
            ) from error
    return path
