"""Any table of a paper as dots with intervals, and its tasks one by one as a heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from beyond_ce.reporting.figures.style import (
    COLORS,
    PAPER,
    color_of,
    heat_map,
    norm_of,
    split_loss,
    style,
)
from beyond_ce.reporting.markdown import heading
from beyond_ce.reporting.paper import SPLIT_NAMES
from beyond_ce.reporting.tables import Column, Part, Table

_ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}
_WIDTH = 3  # panels in a line, where the table does not imply a number
_DODGE = 0.18  # between rows that share a line


def dot_plot(
    table: Table,
    frame: pd.DataFrame,
    metrics: Sequence[str] | None = None,
    by_loss: bool = False,
) -> Figure:
    """Rows of a table as dots with 95% intervals, the paper's numbers as open diamonds.

    A panel per split and metric. The dashed line is the baseline's mean. A metric whose values span
    orders of magnitude has a logarithmic axis. Where the paper's numbers are far from all of ours
    they have an axis of their own, at the top.

    Args:
        frame: results/tables/<scale>/<id>.csv, as `numbers.tabulate` makes it.
        metrics: names of the table's columns or checks; None for all of its columns.
        by_loss: rows that differ only in the loss share a line; the colour tells them apart.
    """
    panels = [
        [(part, split, column) for column in _columns(part, metrics)]
        for part in table.parts
        for split in part.splits
    ]
    panels = [line for line in panels if line]
    if len(panels) == 1 or all(len(line) == 1 for line in panels):
        flat = [panel for line in panels for panel in line]
        panels = [flat[i : i + _WIDTH] for i in range(0, len(flat), _WIDTH)]
    height, width = len(panels), max(map(len, panels))
    labels = [row.label for row in table.rows]
    lines = {label: split_loss(label)[0] if by_loss else label for label in labels}
    names = list(dict.fromkeys(lines.values()))
    places = _places([names.index(lines[label]) for label in labels])
    heights = dict(zip(labels, places, strict=True))
    with style():
        figure, axes = plt.subplots(
            height,
            width,
            figsize=(2.6 * width + 2.2, height * (0.3 * len(names) + 0.95) + 0.4),
            sharey=True,
            squeeze=False,
        )
        for ax in axes.flat:
            ax.set_axis_off()
        for axes_row, line in zip(axes, panels, strict=True):
            for ax, (part, split, column) in zip(axes_row, line, strict=False):
                ax.set_axis_on()
                cells = frame[frame["metric"] == f"{split}/{column.metric}"].set_index("row")
                _dots(ax, cells, heights)
                if table.baseline and table.baseline in cells.index and not by_loss:
                    baseline = cells["mean"][table.baseline]
                    ax.axvline(baseline, color="#BBBBBB", linestyle="--", zorder=0)
                ax.set_title(heading(part, split))
                ax.set_xlabel(column.name + _ARROWS[column.better])
        axes[0, 0].set_yticks(range(len(names)), names)
        axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
        figure.legend(handles=_legend(labels, by_loss), loc="outside upper center", ncols=4)
    return figure


def _columns(part: Part, metrics: Sequence[str] | None) -> list[Column]:
    if metrics is None:
        return part.columns
    return [column for column in part.metrics if column.metric in metrics]


def _places(lines: Sequence[int]) -> list[float]:
    """Heights of rows: that of their line, shifted a little for rows that share a line."""
    places = []
    for i, line in enumerate(lines):
        before, n = lines[:i].count(line), lines.count(line)
        places.append(line + _DODGE * (2 * before - (n - 1)))
    return places


def _dots(ax: Axes, cells: pd.DataFrame, heights: Mapping[str, float]) -> None:
    """One panel; `cells` holds only the panel's metric, indexed by row."""
    known = cells[cells.index.isin(list(heights))]
    paper_ax = ax.twiny() if _far_apart(known) else ax
    for label, line in known.iterrows():
        y, color = heights[str(label)], color_of(str(label))
        ax.plot(line[["ci_low", "ci_high"]], [y, y], color=color, linewidth=1.8)
        ax.plot(line["mean"], y, "o", color=color, markersize=5.5)
        paper_ax.plot(line["paper"], y, **PAPER | {"markeredgecolor": color})
    if paper_ax is not ax:
        paper_ax.spines["top"].set_visible(True)
        paper_ax.set_xlabel("paper's scale", fontsize=8)
        paper_ax.tick_params(axis="x", labelsize=8)
    for axis in (ax, paper_ax):
        axis.locator_params(axis="x", nbins=5)
    ax.grid(axis="y", color="#EEEEEE", linewidth=0.6)
    ax.tick_params(axis="y", length=0)
    ours = known[["mean"] if paper_ax is not ax else ["mean", "paper"]]
    _scale(ax, ours.to_numpy(dtype=float), known["ci_high"].max())
    if not known[["mean", "paper"]].notna().any(axis=None):
        ax.set_xticks([])
        ax.text(0.5, 0.5, "no number", transform=ax.transAxes, ha="center", color="#7F7F7F")


def _far_apart(known: pd.DataFrame) -> bool:
    """Whether one axis would squeeze our numbers, or the paper's, into a point."""
    ours = known[["mean", "ci_low", "ci_high"]].stack()
    papers = known["paper"].dropna()
    gap = max(papers.min() - ours.max(), ours.min() - papers.max())
    return bool(gap > 2 * (ours.max() - ours.min()))


def _scale(ax: Axes, values: NDArray[np.float64], highest: float) -> None:
    """A logarithmic axis where the means span orders of magnitude.

    Args:
        highest: upper end of all intervals.
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if len(sizes) == 0 or sizes.max() < 50 * np.median(sizes):
        return
    if np.nanmin(values) > 0:
        ax.set_xscale("log")
        # An interval that reaches below zero ends at the frame: a log axis has no zero.
        ax.set_xlim(sizes.min() / 3, np.nanmax([sizes.max(), highest]) * 2)
    else:
        ax.set_xscale("symlog", linthresh=10.0 ** np.ceil(np.log10(np.median(sizes))))
        power = 10.0 ** np.floor(np.log10(sizes.max()))
        ax.set_xticks([-power, 0, power])


def _legend(labels: Sequence[str], by_loss: bool) -> list[Line2D]:
    look: dict[str, Any] = {"marker": "o", "markersize": 5.5, "linewidth": 1.8}
    ours = {"ours, mean with 95% interval": COLORS["CE"]}
    if by_loss:
        ours = {split_loss(label)[1] or "other": color_of(label) for label in labels}
    handles = [Line2D([], [], color=color, label=name, **look) for name, color in ours.items()]
    return [*handles, Line2D([], [], label="paper", **PAPER)]


def task_map(table: Table, tasks: pd.DataFrame, metric: str, label: str) -> Figure:
    """A metric task by task: tasks as lines, the table's rows as columns, a panel per split.

    Args:
        tasks: results/tables/<scale>/<id>-tasks.csv.
        metric: one of `table.breakdown`.
        label: what the colour means.
    """
    cells = tasks[tasks["metric"] == metric]
    rows = [row.label for row in table.rows if row.overrides is not None]
    grids = {
        split: lines.pivot(index="task", columns="row", values="mean").reindex(columns=rows)
        for split, lines in cells.groupby("split", sort=False)
    }
    norm = norm_of(cells["mean"].to_numpy(dtype=float))
    sizes = [len(grid) for grid in grids.values()]
    with style():
        figure, axes = plt.subplots(
            len(grids),
            1,
            figsize=(0.75 * len(rows) + 4, 0.3 * sum(sizes) + 2),
            height_ratios=sizes,
            sharex=True,
            squeeze=False,
        )
        for ax, (split, grid) in zip(axes[:, 0], grids.items(), strict=True):
            image = heat_map(ax, grid.to_numpy(dtype=float), norm, ".2f")
            ax.set_yticks(range(len(grid)), list(grid.index))
            ax.set_title(SPLIT_NAMES.get(str(split), str(split)).capitalize())
        axes[-1, 0].set_xticks(range(len(rows)), rows, rotation=40, ha="right")
        figure.colorbar(image, ax=axes[:, 0], label=label, shrink=0.6)
    return figure
