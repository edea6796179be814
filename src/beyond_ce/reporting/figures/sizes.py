"""A metric over the size of the model."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from beyond_ce.reporting.figures.style import LINES, style, within_percent
from beyond_ce.reporting.markdown import heading
from beyond_ce.reporting.tables import Table

_UNITS: Mapping[str, float] = {"M": 1e6, "B": 1e9}
_ASIDE = 1.06  # between the intervals of two lines, as a factor
_SIZE = re.compile(r"([\d.]+)([MB]), (.+)")


def size_of(label: str) -> tuple[float, str]:
    """Parameters in a row's label and the rest of it: "30M, n = 2" -> (3e7, "n = 2").

    Raises:
        ValueError: the label does not begin with a size.
    """
    found = _SIZE.fullmatch(label)
    if found is None:
        raise ValueError(f"{label!r} does not begin with a size, such as 30M")
    return float(found[1]) * _UNITS[found[2]], found[3]


def size_curves(table: Table, frame: pd.DataFrame) -> Figure:
    """The table's columns over the number of parameters: a panel per split and column, a line per
    kind of row, such as "n = 2"; upright lines are 95% intervals over seeds.

    Args:
        frame: results/tables/<scale>/<id>.csv; its rows are named like "30M, n = 2".
    """
    panels = [(part, s, c) for part in table.parts for s in part.splits for c in part.columns]
    labels = [row.label for row in table.rows if row.overrides is not None]
    kinds = list(dict.fromkeys(size_of(label)[1] for label in labels))
    with style():
        figure, axes = plt.subplots(
            1, len(panels), figsize=(3.4 * len(panels) + 0.6, 3.4), squeeze=False
        )
        for ax, (part, split, column) in zip(axes[0], panels, strict=True):
            cells = frame[frame["metric"] == f"{split}/{column.metric}"].set_index("row")
            for place, (kind, color) in enumerate(zip(kinds, LINES * len(kinds), strict=False)):
                own = [label for label in labels if size_of(label)[1] == kind]
                found = cells.loc[[label for label in own if label in cells.index]]
                aside = _ASIDE ** (place - (len(kinds) - 1) / 2)
                _line(ax, found[found["n_seeds"] > 0], kind, color, aside)
            _over_sizes(ax, labels)
            name = (
                column.name if len(part.splits) == 1 else f"{heading(part, split)}: {column.name}"
            )
            ax.set_title(textwrap.fill(name, 34), fontsize=9)
            if "%" in column.name:
                within_percent(ax, cells)
        if axes[0, 0].get_legend_handles_labels()[0]:
            axes[0, 0].legend(fontsize=8)
    return figure


def _over_sizes(ax: Axes, labels: Sequence[str]) -> None:
    """A logarithmic axis with a tick for each size in the labels."""
    ticks = {size_of(label)[0]: label.partition(",")[0] for label in labels}
    ax.set_xscale("log")
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.minorticks_off()
    ax.set_xlim(min(ticks) / 1.6, max(ticks) * 1.6)
    ax.set_xlabel("parameters without embeddings")


def _line(ax: Axes, cells: pd.DataFrame, label: str, color: str, aside: float) -> None:
    """Draws the intervals at `aside` times the size, so that those of two lines do not overlap; the
    points, too, where there is no line to draw."""
    if len(cells):
        cells = cells.assign(size=[size_of(str(row))[0] for row in cells.index]).sort_values("size")
        sizes = aside * cells["size"]
        points = cells["size"] if len(cells) > 1 else sizes
        ax.plot(points, cells["mean"], "o-", color=color, markersize=4, label=label)
        ax.vlines(sizes, cells["ci_low"], cells["ci_high"], color=color, alpha=0.6, linewidth=1.5)
