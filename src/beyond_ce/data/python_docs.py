"""Python's own documentation: English prose that every machine has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cached_property

from beyond_ce.data.corpus import Corpus, Document
from beyond_ce.data.python_source import library_files, text_digest

_SHORTEST = 80  # characters of a docstring: below are single lines, mostly not sentences
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class PythonDocs(Corpus):
    """What the running interpreter says of itself: docstrings and chapters of its reference.

    A document is all longer docstrings of one file of the standard library, without their
    indentation, or one topic of `help()`: about 500 documents and 2 MB with Python 3.11. The test
    split is "prose"; a file is in the split where `PythonSource` has it.

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
        from pydoc_data.topics import topics  # which stripped installations of Python have not

        return topics

    def identity(self) -> str:
        # Of what the documents are made from: to make them takes seconds.
        return text_digest(self._files | self._topics)

    def documents(self) -> Iterator[Document]:
        seen: set[str] = set()
        for name, source in self._files.items():
            own = [text for text in docstrings(source) if text not in seen]
            seen.update(own)
            if own:
                yield Document("\n\n\n".join(own) + "\n", name, self.split_of(name))
        for topic, text in distinct_topics(self._topics).items():
            name = f"topics/{topic}"
            yield Document(text, name, self.split_of(name))


def docstrings(source: str) -> list[str]:
    """The docstrings of at least `_SHORTEST` characters, in the order of the source."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, _DOCUMENTED)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    texts = [ast.get_docstring(node) or "" for node in nodes]
    return [text for text in texts if len(text) >= _SHORTEST]


def distinct_topics(topics: Mapping[str, str]) -> dict[str, str]:
    """The topics that are no sections of longer ones, at least half of whose paragraphs are new.

    A section in training and its chapter in the test split would be a leak.
    """
    kept = {}
    seen: set[str] = set()
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = re.split(r"\n\s*\n", topics[name])
        if 2 * sum(text not in seen for text in paragraphs) >= len(paragraphs):
            kept[name] = topics[name]
        seen.update(paragraphs)
    return {name: kept[name] for name in topics if name in kept}
