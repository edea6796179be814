"""The report as a site: complete, and looked at in a real browser."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from beyond_ce.reporting.claims import Claim, Condition
from beyond_ce.reporting.power import detectable
from beyond_ce.reporting.site.charts import claim_line
from beyond_ce.reporting.statistics import Summary
from beyond_ce.reporting.verdicts import Effect, Finding
from beyond_ce.reproduction.plan import plan
from beyond_ce.reproduction.report import write_report_site

RESULTS = Path(__file__).resolve().parents[2] / "results"
TABLE = "ntl-3"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE = 390  # pixels

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install it")


class Page(HTMLParser):
    """What a page links to, and what a screen reader needs of it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.headings: list[int] = []
        self.faults: list[str] = []
        self.text: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.names |= {values["id"] or ""} if "id" in values else set()
        self.links += [v for k, v in attrs if k in ("href", "src") and v and v != "data:,"]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img" and not values.get("alt"):
            self.faults.append("an image without words")
        if tag == "th" and not values.get("scope"):
            self.faults.append("a heading of a table that does not say of what")
        if tag == "html" and values.get("lang") != "en":
            self.faults.append("no language")
        if values.get("role") == "region" and not (
            values.get("aria-label") and "tabindex" in values
        ):
            self.faults.append("a region without a name, or out of the keyboard's reach")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one table of the real ones, its kept reports, and a run that was made here."""
    folder = tmp_path_factory.mktemp("site") / "results"
    for suffix in ("md", "csv"):
        copy(RESULTS / "tables" / "cpu" / f"{TABLE}.{suffix}", folder)
    copy(RESULTS / "figures" / "cpu" / "overview.png", folder)
    copy(RESULTS / "claims.md", folder)
    planned = plan(TABLE, "cpu", overrides=[f"results_dir={folder}"])
    names = [planned.folder(job).name for job in planned.configs]
    for name in names:
        copy(RESULTS / "reports" / name / "report.json", folder)
    own = folder / "runs" / names[0]
    own.mkdir(parents=True)
    shutil.copyfile(RESULTS / "reports" / names[0] / "report.json", own / "report.json")
    lines = [{"step": n, "train/loss": 3 / (n + 1)} for n in range(0, 1000, 10)]
    lines.append({"step": 990, "validation/loss": 0.4})
    (own / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_predictions(own / "evaluation" / "interpolate.parquet")
    return folder


def copy(path: Path, folder: Path) -> None:
    target = folder / path.relative_to(RESULTS)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def write_predictions(path: Path) -> None:
    import pandas as pd

    path.parent.mkdir()
    rows = [
        {"prompt": f"{i} <b>+</b> 1?", "answer": str(i + 1), "pieces": ["a"]} for i in range(30)
    ]
    pd.DataFrame(rows).to_parquet(path)


@pytest.fixture(scope="module")
def site(results: Path) -> Path:
    return write_report_site(results).parent


def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_link_resolves_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    read = pages(site)
    assert len(read) > 10
    for path, page in read.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme:
                assert url.scheme == "https" and link.startswith("https://arxiv.org/abs/"), link
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            assert target.is_file() and target.is_relative_to(site.resolve()), (path, link)
            if url.fragment:
                assert unquote(url.fragment) in read[target].names, (path, link)


def test_a_screen_reader_finds_its_way(site: Path) -> None:
    for path, page in pages(site).items():
        assert not page.faults, path
        assert page.headings[0] == 1 and page.headings.count(1) == 1, path
        steps = zip(page.headings, page.headings[1:], strict=False)
        assert all(after <= before + 1 for before, after in steps), path
        assert "content" in page.names, path


def test_from_a_cell_to_its_run(results: Path, site: Path) -> None:
    """The number, the runs of its row, and a run with its config, curves and predictions."""
    table = (site / "tables" / "cpu" / f"{TABLE}.html").read_text()
    planned = plan(TABLE, "cpu", overrides=[f"results_dir={results}"])
    job = next(iter(planned.configs))
    place = re.search(r'<td style="text-align:right"><a href="#(runs-[^"]+)">0\.', table)
    assert place is not None and f'id="{place[1]}"' in table
    name = planned.folder(job).name
    assert f'href="../../runs/{name}.html"' in table
    page = (site / "runs" / f"{name}.html").read_text()
    assert 'data-chart="curves-chart"' in page and "validation" in page
    assert "0 &lt;b&gt;+&lt;/b&gt; 1?" in page and "the first 12 of 30" in page
    assert "max_steps:" in page and f"seed={job.seed}" in page
    other = planned.folder(list(planned.configs)[1]).name
    assert "git keeps its report only" in (site / "runs" / f"{other}.html").read_text()


def test_what_is_missing_has_its_command(site: Path) -> None:
    text = " ".join(Page(site / "index.html").text)
    assert "make reproduce-table-ntl-2 SCALE=cpu" in text
    assert "make reproduce-table-ntl-2 SCALE=paper" in text
    assert f"make reproduce-table-{TABLE} SCALE=cpu" not in text


def test_a_claims_line_is_in_units_of_the_papers_effect() -> None:
    def line(mean: float, paper: float, margin: float, scale: str = "cpu") -> dict[str, Any]:
        ours = Summary(mean, 0.1, mean - 0.2, mean + 0.2, 3)
        condition = Condition("test/accuracy", {"a": 1.0})
        effect = Effect(condition, ours, paper, ours, margin)
        claim = Claim("name", "says", "table 1", "better", "ntl-2", [condition])
        return claim_line(Finding(claim, [effect], {}, None), 0, scale, None)

    whole = line(0.4, paper=0.2, margin=0.1)
    names = ("claim", "effect", "low", "high", "paper_effect")
    assert [whole[name] for name in names] == ["name", 2.0, 1.0, 3.0, 1.0]
    assert whole["detectable"] == pytest.approx(
        detectable(Summary(0, 0.1, -0.2, 0.2, 3)) / 0.2, 1e-3
    )
    # Without a number of the paper, the margin is one half; what lies far away is at the edge.
    alone = line(0.05, paper=math.nan, margin=0.05, scale="gpu")
    assert (alone["effect"], alone["paper_effect"], alone["claim"]) == (0.5, None, "name (gpu)")
    assert line(9.0, paper=0.2, margin=0.1)["effect"] == 3.0


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., str]:
    """What Chromium makes of a page, without a network; fails for an error in its console."""

    def browse(page: Path, *options: str) -> str:
        assert CHROMIUM is not None
        command = [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0"),
            *("--no-first-run", "--disable-extensions", "--virtual-time-budget=20000"),
            *(f"--user-data-dir={tmp_path / 'profile'}", *options, page.as_uri()),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=170)
        assert done.returncode == 0, done.stderr
        console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        assert console == [], console
        return done.stdout

    return browse


@needs_chromium
def test_a_browser_draws_it(site: Path, browse: Callable[..., str], tmp_path: Path) -> None:
    index = browse(site / "index.html", "--dump-dom", "--window-size=1280,2400")
    assert 'id="claims-chart"' in index and 'data-drawn="yes"' in index
    assert index.count("<select") == 4
    assert len(re.findall(r'<svg[^>]*class="marks"', index)) == 1
    run = next(path for path in site.glob("runs/*.html") if "curves-chart" in path.read_text())
    assert 'data-drawn="yes"' in browse(run, "--dump-dom")
    picture = tmp_path / "index.png"
    browse(site / "index.html", f"--screenshot={picture}", "--window-size=1280,2400")
    content = picture.read_bytes()
    assert struct.unpack(">II", content[16:24]) == (1280, 2400) and len(content) > 50_000


@needs_chromium
def test_the_table_of_claims_is_sorted_by_its_headings(
    site: Path, browse: Callable[..., str], tmp_path: Path
) -> None:
    """Each heading is a button that the keyboard reaches, and says how the rows are sorted."""
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"""<iframe id="site" src="{(site / "index.html").as_uri()}"></iframe><script>
        const seen = [];
        document.getElementById("site").onload = () => setTimeout(() => {{
          const inner = document.getElementById("site").contentDocument;
          const table = inner.querySelector("table.sortable");
          table.closest("details").open = true;
          for (const [column, head] of [...table.tHead.rows[0].cells].entries())
            for (let press = 0; press < 2; press++) {{
              const button = head.querySelector("button");
              button.focus();
              inner.activeElement.click();
              const cells = [...table.tBodies[0].rows].map((row) => row.cells[column]);
              seen.push({{
                name: head.textContent,
                sorted: [...inner.querySelectorAll("[aria-sort]")].map(
                  (each) => [each.textContent, each.ariaSort]),
                keys: cells.map((cell) => cell.dataset.key ?? cell.textContent),
              }});
            }}
          document.title = JSON.stringify(seen);
        }}, 5000)</script>"""
    )
    shown = browse(frame, "--dump-dom", "--allow-file-access-from-files")
    title = re.search(r"<title>(.+)</title>", shown)
    assert title is not None
    presses = json.loads(html.unescape(title[1]))
    assert len(presses) == 22
    for number, press in enumerate(presses):
        order = ("ascending", "descending")[number % 2]
        assert press["sorted"] == [[press["name"], order]]
        known = [key for key in press["keys"] if key != ""]
        assert press["keys"][len(known) :] == [""] * (len(press["keys"]) - len(known))
        if press["name"] in ("verdict", "effect", "95% interval", "detectable"):
            values = [float(key) for key in known]
            assert values == sorted(values, reverse=order == "descending")
            assert len(set(values)) > 1
        if press["name"] == "claim":
            assert len(set(known)) == len(known) > 1
            words = [re.sub("[^a-z0-9]", "", key.lower()) for key in known]
            assert words == sorted(words, reverse=order == "descending")


@needs_chromium
def test_a_phone_needs_no_sideways_scrolling(
    site: Path, browse: Callable[..., str], tmp_path: Path
) -> None:
    run = next(path for path in site.glob("runs/*.html") if "curves-chart" in path.read_text())
    for page in (site / "index.html", site / "tables" / "cpu" / f"{TABLE}.html", run):
        frame = tmp_path / "frame.html"
        frame.write_text(
            f'<iframe id="phone" width="{PHONE}" height="800" src="{page.as_uri()}"></iframe>'
            "<script>"
            'document.getElementById("phone").onload = () => setTimeout(() => { document.title = '
            '"wide " + document.getElementById("phone").contentDocument.documentElement.scrollWidth'
            "}, 5000)</script>"
        )
        shown = browse(frame, "--dump-dom", "--allow-file-access-from-files")
        width = re.search(r"<title>wide (\d+)</title>", shown)
        assert width is not None and int(width[1]) <= PHONE, page
