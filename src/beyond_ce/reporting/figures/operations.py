"""Accuracy over the number of operations, with intervals: of the rows of a table."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from beyond_ce.reporting.figures.style import LINES, curve, style, within_percent
from beyond_ce.reporting.tables import Table

_METRIC = r"accuracy@(in_domain|out_of_domain)/m=(\d+)"


def accuracy_by_operations(table: Table, frame: pd.DataFrame) -> Figure:
    """Accuracy over the number of operations m, a line per row; bands are 95% intervals over seeds.

    Rows such as "5 pause tokens, n = 2" have a panel for what stands before the comma. A dotted
    line parts what training has from what it has not.

    Args:
        frame: results/tables/<scale>/<id>.csv, with accuracy in percent.
    """
    panels: dict[str, list[tuple[str, str]]] = {}
    for row in table.rows:
        if row.overrides is not None:
            panel, _, line = row.label.rpartition(", ")
            panels.setdefault(panel, []).append((row.label, line))
    found = frame[frame["metric"].str.fullmatch(f"{re.escape(table.splits[0])}/{_METRIC}")]
    parts = found["metric"].str.extract(_METRIC)
    found = found.assign(trained=parts[0] == "in_domain", m=parts[1].astype(int))
    width = 3.8 * len(panels) + 0.8
    with style():
        figure, axes = plt.subplots(
            1, len(panels), figsize=(width, 3.6), sharey=True, squeeze=False
        )
        for ax, (panel, lines) in zip(axes[0], panels.items(), strict=True):
            for (label, line), color in zip(lines, LINES * len(lines), strict=False):
                cells = found[(found["row"] == label) & (found["n_seeds"] > 0)].sort_values("m")
                curve(ax, cells, "m", ("mean", "ci_low", "ci_high"), line, color)
            ax.set_title(panel)
            _finish(ax, found)
        axes[0][0].set_ylabel("right answers, %")
        within_percent(axes[0][0], found)
    return figure


def _finish(ax: Axes, found: pd.DataFrame) -> None:
    trained = found.loc[found["trained"], "m"]
    if len(trained):
        ax.axvline(trained.max() + 0.5, color="0.5", linestyle=":", linewidth=1)
    ax.set_xticks(sorted(set(found["m"])))
    ax.set_xlabel("operations, m")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8)
