"""Writes a table's files and the ledger of claims from the reports that exist."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from beyond_ce.configuration import CONF_DIR
from beyond_ce.errors import UsageError
from beyond_ce.reporting import outcomes
from beyond_ce.reporting.breakdown import break_down
from beyond_ce.reporting.claims import Claim
from beyond_ce.reporting.history import History
from beyond_ce.reporting.latex import to_latex
from beyond_ce.reporting.ledger import ledger, undecided
from beyond_ce.reporting.markdown import to_markdown
from beyond_ce.reporting.numbers import tabulate, write_csv
from beyond_ce.reporting.tables import Reports, Table
from beyond_ce.reporting.verdicts import Evidence, judge
from beyond_ce.reproduction.claims import every_claim
from beyond_ce.reproduction.plan import Plan, plan
from beyond_ce.reproduction.stages import with_later_seeds
from beyond_ce.runs.identity import kept_folder, run_folder
from beyond_ce.runs.store import check_file, has_weights, is_done, read_report
from beyond_ce.storage.writing import replacing

SCALES = ("cpu", "gpu", "paper")  # without smoke, whose numbers mean nothing


def write(plan: Plan, only_done: bool = False, latex: bool = False) -> dict[str, Path]:
    """Writes the table's files from the reports that exist; returns suffix -> path.

    Seeds after the table's own that have been run are in it, as a second stage.

    Args:
        only_done: leave out runs that did not end here, such as those that failed when they were
            repeated, instead of taking their kept reports. A second stage that has only these is no
            part of the table, rather than missing from it.
    """
    plan = with_later_seeds(plan, only_done)
    finished = [job for job in plan.configs if plan.is_finished(job)]
    reports = plan.reports(finished if only_done else list(plan.configs))
    if not reports:
        raise UsageError(
            f"no finished run of {plan.table.id} at scale {plan.scale}: run `{plan.command}` first"
        )
    first = plan.table.seeds[plan.scale]
    frame = tabulate(plan.table, reports, first)
    expected = len({plan.folder(job) for job in plan.configs})
    missing = [job for job in plan.configs if job not in reports]
    # By the recipes of today: a run is known by what defines it, and not by its recipe's name then.
    starts = [plan.configs[job].start for job in reports if plan.configs[job].get("start")]
    page = to_markdown(
        plan.table, frame, reports, plan.scale, plan.command, expected, missing, starts
    )
    if missing and not only_done:
        print(
            f"{plan.table.id}: {len(missing)} of {len(plan.configs)} reports are missing, see the "
            f"page; `{plan.command}` runs them",
            file=sys.stderr,
        )
    texts = {"md": page}
    if latex:
        texts["tex"] = to_latex(plan.table, frame)
    stem = plan.results / "tables" / plan.scale / plan.table.id
    paths = {suffix: stem.with_suffix(f".{suffix}") for suffix in ("csv", *texts)}
    frames = {"csv": frame}
    if plan.table.breakdown:
        paths["tasks"] = stem.with_name(f"{stem.name}-tasks.csv")
        frames["tasks"] = break_down(plan.table, reports, first)
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
    from beyond_ce.runs.kept import keep_weights  # slow to import

    copies: list[Path] = []
    configs = with_later_seeds(plan).configs.values()
    starts = [config.start for config in configs if config.get("start") is not None]
    sources = {run_folder(s.source): s for s in starts if s.weights == "bfloat16"}
    for own, start in sources.items():
        kept = kept_folder(start.source)
        if is_done(own) and not has_weights(kept):
            copies += keep_weights(own, kept, start.checkpoint)
    for config in [*configs, *(start.source for start in sources.values())]:
        own, kept = run_folder(config), kept_folder(config)
        if not is_done(own):
            continue
        known = (kept / "report.json").exists()
        if known and read_report(kept)["metrics"] == read_report(own)["metrics"]:
            continue
        predictions = [path.relative_to(kept) for path in kept.glob("evaluation/*.parquet")]
        for name in predictions:
            check_file(own / name)
        for name in [Path("report.json"), *predictions]:
            with replacing(kept / name, place="set results_dir") as (file,):
                shutil.copyfile(own / name, file)
            copies.append(kept / name)
    return copies


def write_claims(results: Path) -> tuple[Path, list[str]]:
    """Judges every claim of conf/claims at every scale that has tables: claims.md and claims.csv.

    Scale smoke is left out: its numbers mean nothing.

    Returns:
        The path of claims.md, and a line for each undecided claim on the seeds that it would take.

    Raises:
        UsageError: there is no table that a claim is about.
    """
    claims, tables, evidence = evidence_on(results)
    if not evidence:
        raise UsageError(
            f"{results / 'tables'} has no table of a claim: make one, or set --results"
        )
    page = ledger(claims, tables, evidence, History(CONF_DIR.parent), results)
    path = results / "claims.md"
    with replacing(path, results / outcomes.FILE) as (md, csv):
        md.write_text(page, encoding="utf-8")
        write_csv(outcomes.verdicts(tables, evidence), csv)
    return path, undecided(evidence)


def evidence_on(
    results: Path, known: Mapping[tuple[str, str], Reports] | None = None
) -> tuple[list[Claim], dict[str, Table], list[Evidence]]:
    """All claims, the tables that they name, and what the reports say at each scale with some.

    Args:
        known: (table id, scale) -> the reports behind each table that exists, if they have been
            read already.
    """
    claims, tables = every_claim()
    evidence = []
    for scale in SCALES:
        reports = {
            name: reports_behind(table, scale, results)
            if known is None
            else known.get((name, scale), {})
            for name, table in tables.items()
        }
        if any(reports.values()):
            findings = [judge(c, tables[c.table], scale, reports[c.table]) for c in claims]
            evidence.append(Evidence(scale, findings, reports))
    return claims, tables, evidence


def reports_behind(table: Table, scale: str, results: Path) -> Reports:
    """The reports of a table's runs at a scale; none if the table itself has not been written."""
    if scale not in table.seeds or not (results / "tables" / scale / f"{table.id}.csv").is_file():
        return {}
    planned = with_later_seeds(plan(table.id, scale, overrides=[f"results_dir={results}"]))
    return planned.reports(list(planned.configs))
