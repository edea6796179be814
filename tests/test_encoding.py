"""Every text file is read and written as UTF-8, whatever the locale says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p for folder in ("src", "scripts") for p in (ROOT / folder).rglob("*.py"))

# Open no text, or find out the encoding themselves.
_OTHER = ("os.open", "tokenize.open")


def without_encoding(tree: ast.AST) -> Iterator[str]:
    """The calls that read or write text in the locale's encoding."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _takes_text(node):
            named = [keyword for keyword in node.keywords if keyword.arg == "encoding"]
            values = [getattr(keyword.value, "value", None) for keyword in named]
            if not all(str(value).lower() == "utf-8" for value in values) or not values:
                yield f"line {node.lineno}: {ast.unparse(node)[:80]}"


def _takes_text(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    keywords = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
    last = name.split(".")[-1]
    if last in ("read_text", "write_text"):
        return True
    if name.startswith("subprocess."):
        return bool(keywords.get("text") or keywords.get("universal_newlines"))
    if last not in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile") or name in _OTHER:
        return False
    # A path's own `open` has no path before the mode.
    place = 0 if last != "fdopen" and "." in name and not name.startswith(("gzip.", "io.")) else 1
    mode = keywords.get("mode") or (
        getattr(call.args[place], "value", "r") if len(call.args) > place else "r"
    )
    return "b" not in str(mode)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_is_utf_8(path: Path) -> None:
    assert list(without_encoding(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("path.read_text()", True),
        ("path.write_text(a)", True),
        ("path.write_text(a, encoding='latin-1')", True),
        ("path.write_text(a, encoding='utf-8')", False),
        ("open(path)", True),
        ("open(path, 'w')", True),
        ("open(path, 'rb')", False),
        ("open(path, mode='rb')", False),
        ("path.open()", True),
        ("path.open('a')", True),
        ("path.open('ab')", False),
        ("gzip.open(path, 'rt')", True),
        ("gzip.open(path, 'rb')", False),
        ("tokenize.open(path)", False),
        ("os.open(path, os.O_RDONLY)", False),
        ("subprocess.run(a, text=True)", True),
        ("subprocess.run(a)", False),
        ("subprocess.run(a, text=True, encoding='utf-8')", False),
    ],
)
def test_the_search_finds_what_it_looks_for(code: str, found: bool) -> None:
    assert bool(list(without_encoding(ast.parse(code)))) == found
