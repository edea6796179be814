"""Python's own documentation: English prose that is on every machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from beyond_ce.data.corpus import Corpus, Document
from beyond_ce.data.python_source import library_files, library_paths, text_digest
from beyond_ce.storage.content import remembered

_MIN_CHARACTERS = 80  # of a docstring; shorter ones are single lines and mostly not sentences
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class PythonDocs(Corpus):
    """The running interpreter's documentation: docstrings, and the chapters of its reference.

    A document is either all longer docstrings of one standard library file, without their
    indentation, or one topic of `help()`: about 500 documents and 2 MB with Python 3.11. The test
    split is "prose"; a file is in the same split as in `PythonSource`.

    Args:
        settings: as for `Corpus`.
    """

    name = "python_docs"
    test_splits: tuple[str, ...] = ("prose",)

    @cached_property
    def _files(self) -> dict[str, str]:
        return dict(library_files())

    @cached_property
    def _topics(self) -> dict[str, str]:
        from pydoc_data.topics import topics  # missing in stripped installations of Python

        return topics

    def identity(self) -> str:
        # A digest of the sources, because making the documents takes seconds.
        paths = [*library_paths().values(), *_topics_file()]
        return remembered(paths, "library and topics", self._digest, self.cache_dir)

    def _digest(self) -> str:
        return text_digest(self._files | self._topics)

    def documents(self) -> Iterator[Document]:
        seen: set[str] = set()
        for name, source in self._files.items():
            new = [text for text in docstrings(source) if text not in seen]
            seen.update(new)
            if new:
                yield Document("\n\n\n".join(new) + "\n", name, self.split_of(name))
        for topic, text in distinct_topics(self._topics).items():
            name = f"topics/{topic}"
            yield Document(text, name, self.split_of(name))


def _topics_file() -> list[Path]:
    spec = find_spec("pydoc_data.topics")
    return [Path(spec.origin)] if spec is not None and spec.origin is not None else []


def docstrings(source: str) -> list[str]:
    """The docstrings of at least `_MIN_CHARACTERS` characters, in the order of the source."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, _DOCUMENTED)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    texts = [ast.get_docstring(node) or "" for node in nodes]
    return [text for text in texts if len(text) >= _MIN_CHARACTERS]


def distinct_topics(topics: Mapping[str, str]) -> dict[str, str]:
    """Drops topics that are sections of longer ones: those with mostly known paragraphs.

    Otherwise a section could be in training while its chapter is in the test split.
    """
    kept = {}
    seen: set[str] = set()
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = re.split(r"\n\s*\n", topics[name])
        if 2 * sum(text not in seen for text in paragraphs) >= len(paragraphs):
            kept[name] = topics[name]
        seen.update(paragraphs)
    return {name: kept[name] for name in topics if name in kept}
