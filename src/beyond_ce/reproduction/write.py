"""Writes a table's files and the ledger of claims from the reports that exist."""

from __future__ import annotations

import shutil
from pathlib import Path

from beyond_ce.configuration import CONF_DIR
from beyond_ce.errors import UsageError
from beyond_ce.reporting.breakdown import break_down
from beyond_ce.reporting.claims import judge, ledger, load_claims
from beyond_ce.reporting.latex import to_latex
from beyond_ce.reporting.markdown import to_markdown
from beyond_ce.reporting.tables import (
    Reports,
    Table,
    load_table,
    read_reports,
    tabulate,
    write_csv,
)
from beyond_ce.reproduction.plan import Plan, plan
from beyond_ce.runs.identity import kept_folder, run_folder
from beyond_ce.runs.kept import has_weights, keep_weights
from beyond_ce.runs.store import is_done, read_report
from beyond_ce.storage.writing import replacing, write_atomically

SCALES = ("cpu", "gpu", "paper")  # without smoke, whose numbers mean nothing


def write(plan: Plan, only_done: bool = False, latex: bool = False) -> dict[str, Path]:
    """Writes the table's files from the reports that exist; returns suffix -> path.

    Args:
        only_done: leave out runs that did not end here, such as those that failed when they were
            repeated, instead of taking their kept reports.
    """
    usable = [job for job in plan.configs if not only_done or is_done(plan.folder(job))]
    reports = read_reports(usable, plan.report_folder)
    if not reports:
        raise UsageError(
            f"no finished run of {plan.table.id} at scale {plan.scale}: run `{plan.command}` first"
        )
    frame = tabulate(plan.table, reports)
    expected = len({plan.folder(job) for job in plan.configs})
    texts = {"md": to_markdown(plan.table, frame, reports, plan.scale, plan.command, expected)}
    if latex:
        texts["tex"] = to_latex(plan.table, frame)
    stem = plan.results / "tables" / plan.scale / plan.table.id
    paths = {suffix: stem.with_suffix(f".{suffix}") for suffix in ("csv", *texts)}
    frames = {"csv": frame}
    if plan.table.breakdown:
        paths["tasks"] = stem.with_name(f"{stem.name}-tasks.csv")
        frames["tasks"] = break_down(plan.table, reports)
    # All together: a csv that says other than its page would be worse than an old one.
    with replacing(*paths.values(), place="set results_dir") as files:
        for suffix, file in zip(paths, files, strict=True):
            if suffix in frames:
                write_csv(frames[suffix], file)
            else:
                file.write_text(texts[suffix], encoding="utf-8")
    return paths


def keep_reports(plan: Plan) -> list[Path]:
    """Copies what the table reads from the runs here to results/reports, for git; returns it.

    A kept report with the same metrics stays as it is, and predictions are copied only where a
    run's predictions are kept already, since most tables need none. Of runs that others start from
    with rounded weights, these weights are kept as well.
    """
    copies = []
    starts = [config.start for config in plan.configs.values() if config.get("start") is not None]
    rounded = [start for start in starts if start.weights == "bfloat16"]
    sources = {run_folder(start.source): start for start in rounded}
    for own, start in sources.items():
        kept = kept_folder(start.source)
        if is_done(own) and not has_weights(kept):
            copies += keep_weights(own, kept, start.checkpoint)
    runs = {run_folder(config): config for config in plan.configs.values()}
    for own, config in {**runs, **{own: start.source for own, start in sources.items()}}.items():
        kept = kept_folder(config)
        if not is_done(own):
            continue
        known = (kept / "report.json").exists()
        if known and read_report(kept)["metrics"] == read_report(own)["metrics"]:
            continue
        predictions = [path.relative_to(kept) for path in kept.glob("evaluation/*.parquet")]
        for name in [Path("report.json"), *predictions]:
            with replacing(kept / name, place="set results_dir") as (file,):
                shutil.copyfile(own / name, file)
            copies.append(kept / name)
    return copies


def write_claims(results: Path) -> Path:
    """Judges every claim of conf/claims at every scale that has tables; returns claims.md.

    Scale smoke is left out: its numbers mean nothing.
    """
    tables: dict[str, Table] = {}

    def table_of(table_id: str) -> Table:
        if table_id not in tables:
            tables[table_id] = load_table(CONF_DIR / "table" / f"{table_id}.yaml")
        return tables[table_id]

    files = sorted((CONF_DIR / "claims").glob("*.yaml"))
    claims = [claim for path in files for claim in load_claims(path, table_of)]
    findings = {}
    for scale in SCALES:
        reports = {name: reports_behind(table, scale, results) for name, table in tables.items()}
        if any(reports.values()):
            findings[scale] = [judge(c, tables[c.table], scale, reports[c.table]) for c in claims]
    path = results / "claims.md"
    write_atomically(path, ledger(claims, tables, findings, results))
    return path


def reports_behind(table: Table, scale: str, results: Path) -> Reports:
    """The reports of a table's runs at a scale; none if the table itself has not been written."""
    if scale not in table.seeds or not (results / "tables" / scale / f"{table.id}.csv").is_file():
        return {}
    planned = plan(table.id, scale, overrides=[f"results_dir={results}"])
    return read_reports(list(planned.configs), planned.report_folder)
