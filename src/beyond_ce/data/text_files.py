"""The user's own plain text: a file, a folder or a glob."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beyond_ce.data.corpus import Corpus, Document
from beyond_ce.data.files import ROOT_VARIABLE, content_digest, data_folder, read_lines
from beyond_ce.errors import UsageError
from beyond_ce.settings import TEXT, optional, takes


def _line(value: Any) -> str | None:
    """A line of text, perhaps an empty one, or null."""
    return None if value is None or isinstance(value, str) else "give a text, or null"


class TextFiles(Corpus):
    """UTF-8 text files: each is a document or, with a separator, several.

    All line endings become newlines, and blank documents are dropped. A hash of the document's text
    decides its split, so all copies of a text are in the same split.

    Args:
        path: a file, a folder or a glob; null for the folder `name` in $BEYOND_CE_DATA.
        pattern: which files of a folder and its subfolders to take, plain or with .gz appended.
        separator: a line that ends a document, such as "<|endoftext|>"; null if each file is one.
        name: the corpus's name.
        settings: as for `Corpus`.

    Raises:
        UsageError: there are no such files, or settings are out of their range.
    """

    @takes(
        "dataset",
        path=optional(TEXT),
        pattern=TEXT,
        separator=_line,
        name=TEXT,
    )
    def __init__(
        self,
        *,
        path: str | Path | None,
        pattern: str = "*.txt",
        separator: str | None = None,
        name: str = "text_files",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.name = name
        self.separator = separator
        self.paths = _find(path, pattern, name)
        self.root = Path(os.path.commonpath([path.parent for path in self.paths]))

    def identity(self) -> str:
        return f"{content_digest(self.paths, self.cache_dir)} separated by {self.separator!r}"

    def documents(self) -> Iterator[Document]:
        for path in self.paths:
            for number, text in enumerate(self._texts(path), start=1):
                relative = path.relative_to(self.root).as_posix()
                name = relative if self.separator is None else f"{relative}#{number}"
                if text.strip():
                    yield Document(text, name, self.split_of(text))

    def _texts(self, path: Path) -> Iterator[str]:
        lines: list[str] = []
        for _, line in read_lines(path):
            if line == self.separator:
                yield "".join(lines)
                lines = []
            else:
                lines.append(f"{line}\n")
        yield "".join(lines)


def _glob(pattern: Path) -> Iterator[Path]:
    """What `glob.glob` finds, but `**` enters every folder once: links may lead around in loops."""
    parts = pattern.parts
    if "**" not in parts:
        yield from map(Path, glob.glob(str(pattern)))
        return
    at = parts.index("**")
    rest = parts[at + 1 :] or ("*",)
    for start in sorted(glob.glob(str(Path(*parts[:at])))):
        for folder in _folders(start):
            yield from _glob(Path(glob.escape(folder), *rest))


def _folders(start: str) -> Iterator[str]:
    """The folder and all below it that are not hidden, those that links lead to included; each
    once, whatever number of links lead to it."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen or not os.path.isdir(folder):
            continue
        seen.add(real)
        yield folder
        with contextlib.suppress(OSError):  # as glob does, leave out what cannot be read
            below = sorted(os.listdir(folder), reverse=True)
            waiting += [os.path.join(folder, name) for name in below if not name.startswith(".")]


def _find(path: str | Path | None, pattern: str, name: str) -> list[Path]:
    """The files, sorted by path.

    Raises:
        UsageError: there are none.
    """
    source = path if path is not None else data_folder(None, name)
    if source is None:
        raise UsageError(
            f"dataset.path: give a file, a folder or a glob of text files, or a folder {name} in "
            f"${ROOT_VARIABLE}"
        )
    source = Path(source).expanduser()
    if source.is_dir():
        matches = {*source.rglob(pattern), *source.rglob(f"{pattern}.gz")}
        wanted = f"{pattern} (or the same with .gz) in {source}"
    else:
        matches = set(_glob(source))
        wanted = str(source)
    files = sorted(match for match in matches if match.is_file())
    if not files:
        raise UsageError(f"dataset.path={path}: there is no file {wanted}")
    return files
