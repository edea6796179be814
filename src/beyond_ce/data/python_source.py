"""Python's own standard library: source code that is on every machine."""

from __future__ import annotations

import hashlib
import os
import sysconfig
import tokenize
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from beyond_ce.data.corpus import Corpus, Document
from beyond_ce.storage.content import remembered

# Test suites (lib2to3's and idlelib's among them) are half of the library and full of
# near-duplicates. encodings has generated tables and a hundred codecs from one template; pydoc_data
# is one literal of prose. site-packages is not part of the library.
_EXCLUDED = {
    "test",
    "tests",
    "idle_test",
    "encodings",
    "pydoc_data",
    "site-packages",
    "dist-packages",
}
# Generated when the interpreter was built, with that machine's paths.
_GENERATED = ("_sysconfigdata", "config-")


class PythonSource(Corpus):
    """The source files of the running interpreter's standard library, one document each.

    About 600 files and 10 MB with Python 3.11. A hash of a file's path in the library decides its
    split, so it is the same for all versions of Python; the test split is "code".

    Args:
        settings: as for `Corpus`.
    """

    name = "python_source"
    test_splits: tuple[str, ...] = ("code",)

    @cached_property
    def _files(self) -> dict[str, str]:
        return dict(library_files())

    def identity(self) -> str:
        paths = library_paths().values()
        return remembered(paths, "library", lambda: text_digest(self._files), self.cache_dir)

    def documents(self) -> Iterator[Document]:
        for name, text in self._files.items():
            yield Document(text, name, self.split_of(name))


def library_paths() -> dict[str, Path]:
    """Path within the library -> path of each source file, without tests and generated tables."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for folder, below, files in os.walk(root):
        # Here and not on every file: site-packages may hold many times as many as the library.
        below[:] = set(below) - _EXCLUDED
        found += [Path(folder, name).relative_to(root) for name in files if name.endswith(".py")]
    kept = (path for path in found if not path.parts[0].startswith(_GENERATED))
    return {path.as_posix(): root / path for path in sorted(kept, key=lambda path: path.parts)}


def library_files() -> Iterator[tuple[str, str]]:
    """Path within the library and text of each source file that is text and not empty."""
    for name, path in library_paths().items():
        try:
            with tokenize.open(path) as file:  # in the encoding that the file declares
                text = file.read()
        except (OSError, SyntaxError, UnicodeDecodeError):
            continue
        if text.strip():
            yield name, text


def text_digest(texts: dict[str, str]) -> str:
    """Hex digest of named texts."""
    digest = hashlib.sha256()
    for part in (part for pair in texts.items() for part in pair):
        digest.update(f"{len(part)} {part}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
