"""Pages of the report: what they show, and their HTML."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from beyond_ce.reporting.markdown import NOTHING
from beyond_ce.storage.writing import write_atomically

_BOLD_OR_CODE = re.compile(r"[*`]")


class Site:
    """A folder of pages. All links between them are relative, so that it can be moved and sent.

    Args:
        folder: of the site, for itself.
        common: what every page may show.
    """

    def __init__(self, folder: Path, **common: Any) -> None:
        self.folder = folder
        self._environment = Environment(
            loader=PackageLoader("beyond_ce.reporting.site"),
            autoescape=select_autoescape(),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(common)

    def write(self, name: str, template: str, **values: Any) -> None:
        """Write a page.

        Args:
            name: path below the folder, such as "tables/cpu/ntl-2.html".
            values: of the template; `root` leads from the page to the site's folder.
        """
        root = "../" * name.count("/")
        page = self._environment.get_template(template).render(root=root, **values)
        write_atomically(self.folder / name, page)

    def write_file(self, name: str, text: str) -> None:
        write_atomically(self.folder / name, text)

    def copy(self, path: Path, name: str) -> None:
        """Take a file over, so that the site needs nothing outside of its folder."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)

    def source(self, name: str) -> str:
        """A file of the templates' folder as it is."""
        loader = self._environment.loader
        assert loader is not None
        return loader.get_source(self._environment, name)[0]


def slug(text: str) -> str:
    """A row's label as the name of a place in a page."""
    return "runs-" + (re.sub(r"[^0-9a-z]+", "-", text.lower()).strip("-") or "row")


def from_markdown(
    text: str, rows: Mapping[str, str] | None = None, link: Callable[[str], str] = str
) -> Markup:
    """A page of ours as HTML: tables that a screen reader can read, and that scroll sideways.

    Args:
        rows: label -> place; the cells of a table's row of that label lead there, but for those in
            columns of the paper.
        link: what becomes of a link's target.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL))
    for token in tokens:
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", link(str(child.attrGet("href"))))
    _mark_cells(tokens, rows or {})
    html = parser.renderer.render(tokens, parser.options, {})
    around = '<div class="wide" role="region" aria-label="table" tabindex="0"><table>'
    return Markup(html.replace("<table>", around).replace("</table>", "</table></div>"))


def _mark_cells(tokens: list[Token], rows: Mapping[str, str]) -> None:
    """Says which cells are headings, and links those of the rows."""
    header: list[str] = []
    place: str | None = None
    column = 0
    for token, inline in itertools.pairwise(tokens):
        if token.type == "thead_open":
            header = []
        elif token.type == "tr_open":
            column, place = 0, None
        elif token.type == "th_open":
            token.attrSet("scope", "col")
            header.append(inline.content)
        elif token.type == "td_open":
            if column == 0:
                token.tag = "th"
                token.attrSet("scope", "row")
                place = rows.get(_BOLD_OR_CODE.sub("", inline.content))
            elif place and header[column] != "paper" and inline.content.strip(" -") != NOTHING:
                start, end = Token("link_open", "a", 1), Token("link_close", "a", -1)
                start.attrSet("href", f"#{place}")
                inline.children = [start, *(inline.children or ()), end]
            column += 1
        elif token.type == "td_close" and column == 1:
            token.tag = "th"
