"""Draws the pictures in results/figures from the tables and reports that exist; runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from beyond_ce.configuration import CONF_DIR
from beyond_ce.errors import UsageError
from beyond_ce.reporting.claims import load_claims
from beyond_ce.reporting.figures import (
    OVERVIEW_TABLES,
    accuracy_by_operations,
    claims_figure,
    contrast_plot,
    dot_plot,
    overview,
    pass_at_k_curves,
    pass_at_k_over_temperature,
    size_curves,
)
from beyond_ce.reporting.numbers import CSV_COLUMNS
from beyond_ce.reporting.tables import Reports, Table, load_table
from beyond_ce.reporting.verdicts import Finding, judge
from beyond_ce.reproduction.plan import PAPERS
from beyond_ce.reproduction.write import SCALES, reports_behind
from beyond_ce.storage.reading import refusing_damage
from beyond_ce.storage.writing import replacing

PICTURES: dict[str, tuple[str, Callable[[Table, pd.DataFrame], Figure]]] = {
    "ntl-map": ("ntl-map", contrast_plot),
    "mtp-copying": ("mtp-copying", dot_plot),
    "mtp-fig3": ("mtp-s7", contrast_plot),
    "mtp-fig4": ("mtp-fig4", pass_at_k_curves),
    "mtp-fig5": ("mtp-fig5", partial(dot_plot, metrics=["choices/acc"])),
    "mtp-fig6": ("mtp-fig6", dot_plot),
    "mtp-figs12": ("mtp-figs12", dot_plot),
    "mtp-figs13": ("mtp-figs13", pass_at_k_over_temperature),
    "mtp-fig8": ("mtp-fig8", accuracy_by_operations),
    "mtp-figs15": ("mtp-figs15", accuracy_by_operations),
    "mtp-figs16": ("mtp-figs16", accuracy_by_operations),
    "mtp-fig7": ("mtp-fig7", size_curves),
    "mtp-figs14": ("mtp-figs14", size_curves),
}
"""Name of a picture -> the table that it shows, and what draws it."""


def write_figures(results: Path, scale: str, folder: Path | None = None) -> list[Path]:
    """Draws `overview.png`, `claims-<paper>.png` and the `PICTURES` of tables that exist; returns
    their paths.

    The same results give the same bytes, so drawing again changes nothing in git.

    Args:
        folder: where the figures go; None for <results>/figures/<scale>.

    Raises:
        UsageError: there is no such scale, it has no tables, or the folder cannot be written.
    """
    if scale not in SCALES:
        raise UsageError(f"--scale {scale}: choose one of {', '.join(SCALES)}")
    csvs = results / "tables" / scale
    if not any(csvs.glob("*.csv")):
        raise UsageError(
            f"{csvs} has no table to draw: run `make reproduce-all SCALE={scale}` first"
        )
    tables = {path.stem: load_table(path) for path in sorted((CONF_DIR / "table").glob("*.yaml"))}
    findings = _findings(results, scale, tables)
    frames = {
        name: read_csv(csvs / f"{name}.csv")
        for name in OVERVIEW_TABLES
        if (csvs / f"{name}.csv").is_file()
    }
    folder = results / "figures" / scale if folder is None else folder
    # 1,440 pixels: sharp where a README shows 900 of them.
    paths = [_save(overview(findings, frames, scale), folder / "overview.png", dpi=160)]
    for paper, paper_findings in findings.items():
        path = folder / f"claims-{paper}.png"
        paths.append(_save(claims_figure(paper_findings, tables), path, dpi=100))
    for name, (table_id, draw) in PICTURES.items():
        if (csvs / f"{table_id}.csv").is_file():
            picture = draw(tables[table_id].at(scale), read_csv(csvs / f"{table_id}.csv"))
            paths.append(_save(picture, folder / f"{name}.png", dpi=130))
    return paths


def read_csv(path: Path) -> pd.DataFrame:
    """A table's numbers, as `make_table.py` has written them.

    Raises:
        RunError: the file is damaged.
    """
    remedy = f"write it again with scripts/make_table.py {path.stem}"
    with refusing_damage(path, remedy):
        frame = pd.read_csv(path)
        if list(frame.columns) != list(CSV_COLUMNS) or frame.empty:
            raise ValueError("it is no table's csv")
        for column in CSV_COLUMNS[2:]:
            frame[column] = pd.to_numeric(frame[column])
    return frame


def _findings(
    results: Path, scale: str, tables: Mapping[str, Table]
) -> dict[str, Sequence[Finding]]:
    """Paper -> the findings on its claims."""
    reports: dict[str, Reports] = {}
    findings: dict[str, Sequence[Finding]] = {}
    for paper in PAPERS:
        claims = load_claims(CONF_DIR / "claims" / f"{paper}.yaml", tables.__getitem__)
        for name in {claim.table for claim in claims} - set(reports):
            reports[name] = reports_behind(tables[name], scale, results)
        findings[paper] = [judge(c, tables[c.table], scale, reports[c.table]) for c in claims]
    return findings


def _save(figure: Figure, path: Path, dpi: int) -> Path:
    with replacing(path, place="set --results") as (file,):
        figure.savefig(file, dpi=dpi, format="png")
        # A palette takes a third of the space, and leaves out the field that names matplotlib's
        # version: another version would change the file.
        image = Image.fromarray((plt.imread(file) * 255).round().astype(np.uint8))
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            file, format="png", optimize=True
        )
    plt.close(figure)
    return path
