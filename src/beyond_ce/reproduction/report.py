"""Gathers what the report shows, from the tables and reports that exist, and writes the site."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from beyond_ce.configuration import CONF_DIR
from beyond_ce.reporting.figures.claims import VERDICT_STYLES
from beyond_ce.reporting.markdown import NOTHING, interval, number
from beyond_ce.reporting.numbers import TableNumbers
from beyond_ce.reporting.site.charts import (
    claim_line,
    claims_chart,
    curves_chart,
    javascript,
    papers_unit,
)
from beyond_ce.reporting.site.pages import Site, from_markdown, slug
from beyond_ce.reporting.tables import Job, Reports, Table, load_table
from beyond_ce.reporting.verdicts import Evidence, Finding, Verdict, spec_of
from beyond_ce.reproduction.plan import Plan, plan
from beyond_ce.reproduction.stages import with_later_seeds
from beyond_ce.reproduction.write import SCALES, evidence_on
from beyond_ce.runs.provenance import provenance
from beyond_ce.training.records import read_records

_ROWS = 12  # of predictions that a run's page shows
_LONGEST = 400  # characters of a prediction
_FIGURES = {
    "overview": "The losses of both papers, decoding speed, and the verdict on each claim",
    "claims-ntl": "The claims of the Number Token Loss paper, with our effects",
    "claims-mtp": "The claims of the Multi-Token Prediction paper, with our effects",
}


@dataclass
class _Made:
    """A table that exists at a scale.

    Attributes:
        jobs: those with a report, in the table's order.
    """

    plan: Plan
    reports: Reports
    jobs: list[Job] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"tables/{self.plan.scale}/{self.plan.table.id}.html"


@dataclass
class _Run:
    """A run, and where it counts."""

    plan: Plan
    job: Job
    report: Mapping[str, Any]
    tables: list[dict[str, str]] = field(default_factory=list)


def write_report_site(results: Path) -> Path:
    """Writes <results>/report/index.html and what belongs to it; returns its path.

    The former report there is removed. Nothing is run.
    """
    folder = results / "report"
    made = list(_made(results))
    known = {(m.plan.table.id, m.plan.scale): m.reports for m in made}
    _, tables, evidence = evidence_on(results, known)
    head = provenance()
    site = Site(
        folder,
        made_at=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        commit=(head["commit"] or "unknown")[:12],
    )
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("style.css", "charts.js", "sort.js"):
        site.write_file(name, site.source(name))
    site.write_file("vega.js", javascript())
    runs: dict[str, _Run] = {}
    for table in made:
        _write_table(site, results, table)
        for job in table.jobs:
            report = table.reports[job]
            run = runs.setdefault(report["run"], _Run(table.plan, job, report))
            entry = {"id": table.plan.table.id, "scale": table.plan.scale, "url": table.url}
            if entry not in run.tables:
                run.tables.append(entry)
    for run in runs.values():
        _write_run(site, run)
    ledger = results / "claims.md"
    if ledger.is_file():
        pages = {f"tables/{m.plan.scale}/{m.plan.table.id}.md": m.url for m in made}
        content = from_markdown(
            ledger.read_text(encoding="utf-8"),
            link=lambda target: pages.get(target, "index.html#missing"),
        )
        site.write("ledger.html", "page.html", title="Ledger of claims", content=content, runs=[])
    captions = {
        m.plan.table.id: f"{m.plan.table.id}: {m.plan.table.title}" for m in made
    } | _FIGURES
    findings = [(each.scale, finding) for each in evidence for finding in each.findings]
    urls = {(m.plan.table.id, m.plan.scale): m.url for m in made}
    lines = [
        claim_line(finding, number, scale, urls.get((finding.claim.table, scale)))
        for number, (scale, finding) in enumerate(findings)
    ]
    site.write(
        "index.html",
        "index.html",
        evidence=[_counts(each) for each in evidence],
        verdicts=[{"name": v.value, "color": color} for v, (_, color) in VERDICT_STYLES.items()],
        claims=[_claim(tables, scale, finding, urls) for scale, finding in findings],
        has_ledger=ledger.is_file(),
        spec=claims_chart(lines) if lines else None,
        tables=[_entry(table) for table in made],
        figures=list(_figures(site, results, captions)),
        missing=list(_missing(made)),
    )
    return folder / "index.html"


def _made(results: Path) -> Iterator[_Made]:
    for path in sorted((CONF_DIR / "table").glob("*.yaml")):
        table = load_table(path)
        for scale in SCALES:
            page = results / "tables" / scale / f"{table.id}.md"
            if scale in table.seeds and page.is_file():
                planned = plan(table.id, scale, overrides=[f"results_dir={results}"])
                planned = with_later_seeds(planned)
                reports = planned.reports(list(planned.configs))
                yield _Made(planned, reports, list(reports))


def _entry(made: _Made) -> dict[str, Any]:
    table = made.plan.table
    return {
        "id": table.id,
        "title": table.title,
        "source": table.source,
        "scale": made.plan.scale,
        "url": made.url,
        "done": len({report["run"] for report in made.reports.values()}),
        "expected": len({made.plan.folder(job) for job in made.plan.configs}),
    }


def _write_table(site: Site, results: Path, made: _Made) -> None:
    table, scale = made.plan.table, made.plan.scale
    numbers = TableNumbers(table, made.reports)
    names = [name for name, (_, column) in numbers.metrics.items() if column.better is not None]
    runs = []
    places: dict[str, str] = {}
    for job in made.jobs:
        report = made.reports[job]
        values = []
        for name in names:
            value = _value(report, name, numbers, job.row)
            values.append(
                NOTHING if value is None else number(value, numbers.metrics[name][1].format)
            )
        first = job.row not in places
        places.setdefault(job.row, slug(job.row))
        runs.append(
            {
                "row": job.row,
                "seed": job.seed,
                "name": report["run"],
                "numbers": values,
                "place": places[job.row] if first else None,
            }
        )
    page = results / "tables" / scale / f"{table.id}.md"
    for path in page.parent.glob(f"{table.id}*.csv"):  # the page may link them
        site.copy(path, f"tables/{scale}/{path.name}")
    content = from_markdown(page.read_text(encoding="utf-8"), places)
    site.write(
        made.url, "page.html", title=f"{table.id}, scale {scale}", content=content, runs=runs,
        metrics=names,
    )  # fmt: skip


def _value(report: Mapping[str, Any], name: str, numbers: TableNumbers, row: str) -> float | None:
    variant = numbers.rows[row].variant
    metrics = report["metrics"]
    value = metrics.get(f"{name}@{variant}", metrics.get(name)) if variant else metrics.get(name)
    if value is None or not math.isfinite(value):
        return None
    return float(value) * numbers.metrics[name][1].times


def _write_run(site: Site, run: _Run) -> None:
    report, own = run.report, run.plan.folder(run.job)
    records = own / "metrics.jsonl"
    spec = curves_chart(read_records(records)) if records.is_file() else None
    hardware = report["hardware"]
    command = None
    if not run.plan.table.measure:
        words = ["python", "scripts/train.py", *run.job.overrides, f"seed={run.job.seed}"]
        command = shlex.join([w for w in words if not w.startswith("results_dir=")])
    facts = [
        ("finished", report.get("finished_at", NOTHING)),
        ("commit", f"{report['commit']}{' with local changes' if report['dirty'] else ''}"),
        ("hardware", f"{hardware.get('gpu') or hardware['cpu']}, {hardware['cores']} cores"),
        ("minutes", f"{report['wall_clock_s'] / 60:.1f}"),
        ("parameters", f"{report['parameters']:,}"),
        ("steps", f"{report['steps']:,}"),
        ("samples", f"{report['samples']:,}"),
    ]
    site.write(
        f"runs/{report['run']}.html",
        "run.html",
        report=report,
        row=run.job.row,
        tables=run.tables,
        command=command,
        facts=facts,
        spec=spec,
        no_curves="It was not trained."
        if not report["steps"]
        else "They lie where it was run: git keeps its report only. The command above draws them.",
        values=sorted(
            (name, NOTHING if value is None else f"{value:.6g}")
            for name, value in report["metrics"].items()
        ),
        predictions=list(_predictions(run.plan.report_folder(run.job))),
        config=OmegaConf.to_yaml(OmegaConf.create(report.get("config", {}))),
    )


def _predictions(folder: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import ArrowException, parquet

    for path in sorted(folder.glob("evaluation/*.parquet")):
        try:
            file = parquet.ParquetFile(path)
            batch = next(file.iter_batches(_ROWS), None)
        except (OSError, ArrowException):
            continue  # a damaged file is found by those who read all of it
        if batch is None or not batch.num_rows:
            continue
        rows = batch.to_pylist()
        columns = [name for name in rows[0] if not isinstance(rows[0][name], list | dict)]
        yield {
            "name": path.stem,
            "count": file.metadata.num_rows,
            "columns": columns,
            "lines": [[_shown(row[name]) for name in columns] for row in rows],
        }


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _counts(evidence: Evidence) -> dict[str, Any]:
    found = [finding.verdict for finding in evidence.findings]
    counts = [
        {"name": verdict.value, "count": found.count(verdict), "color": color}
        for verdict, (_, color) in VERDICT_STYLES.items()
    ]
    return {"name": evidence.scale, "counts": counts}


def _claim(
    tables: Mapping[str, Table],
    scale: str,
    finding: Finding,
    urls: Mapping[tuple[str, str], str],
) -> dict[str, Any]:
    claim, effect = finding.claim, finding.weakest
    spec = spec_of(finding, tables)
    is_open = finding.verdict is Verdict.UNDECIDED and not finding.near_margin
    needed = finding.seeds_to_decide if is_open else None
    smallest = effect.detectable
    mean, _, ends = interval(effect.ours, spec).strip("*").partition(" ")
    # Claims have different metrics, so their table is sorted in units of the paper's effects.
    unit = papers_unit(effect)
    sort_by = {
        "verdict": list(Verdict).index(finding.verdict),
        "effect": effect.ours.mean / unit,
        "width": (effect.ours.high - effect.ours.low) / unit,
        "paper": effect.paper / unit,
        "detectable": smallest / unit,
        "seeds": effect.ours.n or math.nan,
        "to_decide": needed or math.nan,
    }
    return {
        "id": claim.id,
        "says": claim.claim,
        "verdict": finding.label,
        "color": VERDICT_STYLES[finding.verdict][1],
        "effect": mean,
        "interval": ends or NOTHING,
        "paper": NOTHING if math.isnan(effect.paper) else number(effect.paper, f"+{spec}"),
        "detectable": NOTHING if math.isnan(smallest) else number(smallest, spec),
        "seeds": effect.ours.n or NOTHING,
        "to_decide": f"{needed:,}" if needed else NOTHING,
        "metric": effect.condition.metric,
        "table": claim.table,
        "scale": scale,
        "url": urls.get((claim.table, scale)),
        "sort_by": {name: _key(value) for name, value in sort_by.items()},
    }


def _key(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def _figures(site: Site, results: Path, captions: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for scale in SCALES:
        paths = sorted((results / "figures" / scale).glob("*.png"))
        for path in sorted(paths, key=lambda path: path.stem != "overview"):
            site.copy(path, f"figures/{scale}/{path.name}")
            caption = captions.get(path.stem, path.stem)
            yield {
                "url": f"figures/{scale}/{path.name}",
                "alt": f"{caption}; the tables above have its numbers",
                "caption": f"{caption} (scale {scale})",
            }


def _missing(made: Sequence[_Made]) -> Iterator[dict[str, Any]]:
    """Tables that are not made, or not as a whole, and their commands."""
    known = {(each.plan.table.id, each.plan.scale): each for each in made}
    ids = [path.stem for path in sorted((CONF_DIR / "table").glob("*.yaml"))]
    for scale in SCALES:
        lines = []
        for table_id in ids:
            command = f"make reproduce-table-{table_id} SCALE={scale}"
            each = known.get((table_id, scale))
            if each is not None:
                entry = _entry(each)
                lacking = entry["expected"] - entry["done"]
                if lacking > 0:
                    what = f"{lacking} of {entry['expected']} runs"
                    lines.append({"id": table_id, "what": what, "command": each.plan.command})
            elif scale in load_table(CONF_DIR / "table" / f"{table_id}.yaml").seeds:
                lines.append({"id": table_id, "what": "the table", "command": command})
        if lines:
            yield {"name": scale, "lines": lines}
