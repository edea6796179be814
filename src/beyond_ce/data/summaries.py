"""Texts and their summaries: the MTP paper's data sets, and one of research papers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beyond_ce.data.base import PromptAnswerData
from beyond_ce.data.cache import Splits
from beyond_ce.data.example import Example
from beyond_ce.data.files import RowSource
from beyond_ce.errors import RunError, UsageError
from beyond_ce.settings import NO_LIMIT, PATH, TEXT, one_of, optional, takes

log = logging.getLogger(__name__)

END = "\n\nSummary:\n"
"""Ends every prompt."""


@dataclass(frozen=True)
class _Source:
    """Where a data set is on the hub.

    Attributes:
        hub: its name there.
        config: its configuration there; None if it has only one.
        document, summary: its columns. A list of sentences is joined as a document; of a list of
            summaries the first counts.
        converted: the folder of the hub's own copy in parquet, for data sets with a script.
        stem: what the names of its local files start with, in front of that of the split.
    """

    hub: str
    config: str | None
    document: str
    summary: str
    converted: str | None = None
    stem: str = ""


# "*" is the only configuration that there is.
SOURCES = {
    "cnn_dailymail": _Source("abisee/cnn_dailymail", "3.0.0", "article", "highlights"),
    "multi_news": _Source("alexfabbri/multi_news", None, "document", "summary", "*"),
    "orange_sum": _Source("EdinburghNLP/orange_sum", "abstract", "text", "summary", "abstract"),
    "pn_summary": _Source("HooshvareLab/pn_summary", "1.0.0", "article", "summary", "1.0.0"),
    "samsum": _Source("knkarthick/samsum", None, "dialogue", "summary"),
    "thaisum": _Source("nakhun/thaisum", None, "body", "summary", "*"),
    "wiki_summary": _Source("m3hrdadfi/wiki_summary", None, "article", "highlights", "*"),
    "xsum": _Source("EdinburghNLP/xsum", None, "document", "summary"),
    "scitldr": _Source("allenai/scitldr", "Abstract", "source", "target", "Abstract", "scitldr_a_"),
}
"""The eight data sets of MTP figure 6 and table S8, and SciTLDR (Cachola et al. 2020)."""


class Summaries(PromptAnswerData):
    """A document, `END`, and a summary as the answer. Test split: "test".

    NOTE: the MTP paper does not give its prompts. Rows without a document or without a summary are
    dropped, and a warning counts them.

    Args:
        source: one of `SOURCES`.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
        max_characters: longest document; the rest is cut off, at a space where there is one. null
            for all of it.
        max_train, max_validation, max_test: only the first so many rows; null for all.
        path: a folder with train.jsonl, validation.jsonl (or dev.jsonl) and test.jsonl, plain or
            .gz, with the hub's columns or with `document` and `summary`; null for the folder
            `source` in $BEYOND_CE_DATA if there is one, else the hub.
    """

    test_splits: tuple[str, ...] = ("test",)

    @takes(
        "dataset",
        source=one_of(*SOURCES),
        cache_dir=PATH,
        max_characters=NO_LIMIT,
        max_train=NO_LIMIT,
        max_validation=NO_LIMIT,
        max_test=NO_LIMIT,
        path=optional(TEXT),
    )
    def __init__(
        self,
        *,
        source: str,
        cache_dir: str | Path,
        max_characters: int | None = None,
        max_train: int | None = None,
        max_validation: int | None = None,
        max_test: int | None = None,
        path: str | Path | None = None,
    ) -> None:
        self.source = SOURCES[source]
        self.name = source
        self.max_characters = max_characters
        self.most = {"train": max_train, "validation": max_validation, "test": max_test}
        self.cache_dir = Path(cache_dir)
        starts = dict.fromkeys(("", self.source.stem))
        names = {"train": ("train",), "validation": ("validation", "val", "dev"), "test": ("test",)}
        splits = {s: tuple(start + n for start in starts for n in names[s]) for s in names}
        hub = self.source.hub, self.source.config
        self.rows = RowSource(source, hub, splits, path, self.source.converted)

    def _definition(self) -> dict[str, Any]:
        return {
            "source": self.rows.identity(self.cache_dir),
            "max_characters": self.max_characters,
            **{f"max_{split}": most for split, most in self.most.items()},
        }

    @property
    def hub_name(self) -> str | None:
        return self.rows.hub_name

    def _splits(self) -> Splits:
        for split, most in self.most.items():
            examples = list(self._examples(split))
            if not examples:
                raise RunError(f"{self.name}, {split}: no row has a document and a summary")
            yield split, examples[:most]

    def _examples(self, split: str) -> Iterator[Example]:
        dropped = count = 0
        for where, row in self.rows.read(split):
            count += 1
            document = " ".join(_texts(row, (self.source.document, "document"), where))
            summary = _texts(row, (self.source.summary, "summary"), where)[0]
            if document and summary:
                yield Example(_cut(document, self.max_characters) + END, summary, self.name)
            else:
                dropped += 1
        if dropped:
            log.warning(
                "%s, %s: %d of %d rows have no document or no summary and are dropped",
                *(self.name, split, dropped, count),
            )


def _texts(row: dict[str, Any], columns: tuple[str, ...], where: str) -> list[str]:
    """The text or texts of the first of these columns that the row has, without space around."""
    for column in columns:
        value = row.get(column)
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
            return [text.strip() for text in texts]
    raise UsageError(f"{where}: no text '{columns[0]}'; is this the right file?")


def _cut(document: str, most: int | None) -> str:
    if most is None or len(document) <= most:
        return document
    whole, space, _ = document[: most + 1].rpartition(" ")
    return whole.rstrip() if space and whole.strip() else document[:most]
