"""The pictures in results/figures: drawn from committed tables and reports; nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from beyond_ce.configuration import CONF_DIR
from beyond_ce.errors import UsageError
from beyond_ce.reporting.claims import Finding, judge, load_claims
from beyond_ce.reporting.figures import OVERVIEW_TABLES, claims_figure, overview
from beyond_ce.reporting.tables import Reports, Table, load_table, read_reports
from beyond_ce.reproduction import PAPERS, plan

DPI = 160  # 1,440 pixels for a figure of 9 inches: sharp at the width of a README


def write_figures(results: Path, scale: str, folder: Path | None = None) -> list[Path]:
    """Draws `overview.png` and `claims-<paper>.png`; returns their paths.

    The same results give the same bytes, so that drawing again changes nothing in git.

    Args:
        folder: where the figures go; None for <results>/figures/<scale>.

    Raises:
        UsageError: there is no table at this scale, or the folder cannot be written.
    """
    made = results / "tables" / scale
    if not any(made.glob("*.csv")):
        raise UsageError(f"{made} has no table to draw: first `make reproduce-all SCALE={scale}`")
    tables = {path.stem: load_table(path) for path in sorted((CONF_DIR / "table").glob("*.yaml"))}
    findings = _findings(results, scale, tables)
    frames = {
        name: pd.read_csv(made / f"{name}.csv")
        for name in OVERVIEW_TABLES
        if (made / f"{name}.csv").is_file()
    }
    figures = {"overview": overview(findings, frames, scale)}
    figures |= {
        f"claims-{paper}": claims_figure(found, tables) for paper, found in findings.items()
    }
    folder = results / "figures" / scale if folder is None else folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_save(figure, folder / f"{name}.png") for name, figure in figures.items()]
    except OSError as error:
        raise UsageError(f"cannot write {folder} ({error.strerror}): set --results") from error


def _findings(
    results: Path, scale: str, tables: Mapping[str, Table]
) -> dict[str, Sequence[Finding]]:
    """Paper -> the findings on its claims."""
    reports: dict[str, Reports] = {}
    findings = {}
    for paper in PAPERS:
        claims = load_claims(CONF_DIR / "claims" / f"{paper}.yaml", tables.__getitem__)
        for name in {claim.table for claim in claims} - set(reports):
            reports[name] = _reports(results, scale, name)
        findings[paper] = [judge(c, tables[c.table], scale, reports[c.table]) for c in claims]
    return findings


def _reports(results: Path, scale: str, table_id: str) -> Reports:
    """The reports behind a table, none where the table was not written."""
    if not (results / "tables" / scale / f"{table_id}.csv").is_file():
        return {}
    planned = plan(table_id, scale, overrides=[f"results_dir={results}"])
    return read_reports(list(planned.configs), planned.folder)


def _save(figure: Figure, path: Path) -> Path:
    # Without its Software field, which names matplotlib's version, a PNG says only what is drawn.
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)
    return path
