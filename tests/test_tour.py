"""docs/tour.md names files and definitions that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"`((?:[\w-]+/)*[\w-]+\.(?:py|yaml))`(?: `([\w.]+)`)?")
STOPS = sorted(set(NAMED.findall((ROOT / "docs/tour.md").read_text())))


def definitions(path: Path) -> set[str]:
    """Functions and classes of a module, and methods as `Class.method`."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            if isinstance(node, ast.ClassDef):
                inner = (each for each in node.body if isinstance(each, ast.FunctionDef))
                names |= {f"{node.name}.{each.name}" for each in inner}
    return names


def test_the_page_names_something() -> None:
    assert len(STOPS) > 30


@pytest.mark.parametrize(("path", "name"), STOPS)
def test_a_stop_exists(path: str, name: str) -> None:
    places = [ROOT / path, ROOT / "src/beyond_ce" / path]
    found = [place for place in places if place.is_file()]
    assert found, f"docs/tour.md: there is no {path}"
    if name:
        assert name in definitions(found[0]), f"docs/tour.md: {path} defines no {name}"
