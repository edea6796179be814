"""A metric over the size of the model."""

from __future__ import annotations

import re
from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from beyond_ce.reporting.figures.style import LINES, style
from beyond_ce.reporting.markdown import heading
from beyond_ce.reporting.tables import Table

_UNITS: Mapping[str, float] = {"M": 1e6, "B": 1e9}
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
    kind of row, such as "n = 2"; bands are 95% intervals over seeds.

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
            for kind, color in zip(kinds, LINES * len(kinds), strict=False):
                own = [label for label in labels if size_of(label)[1] == kind]
                found = cells.loc[[label for label in own if label in cells.index]]
                _line(ax, found[found["n_seeds"] > 0], kind, color)
            ax.set_xscale("log")
            ax.set_title(heading(part, split))
            ax.set_xlabel("parameters without embeddings")
            ax.set_ylabel(column.name)
        if axes[0, 0].get_legend_handles_labels()[0]:
            axes[0, 0].legend(fontsize=8)
    return figure


def _line(ax: Axes, cells: pd.DataFrame, label: str, color: str) -> None:
    if len(cells):
        cells = cells.assign(size=[size_of(str(row))[0] for row in cells.index]).sort_values("size")
        ax.plot(cells["size"], cells["mean"], "o-", color=color, markersize=4, label=label)
        ax.fill_between(
            cells["size"], cells["ci_low"], cells["ci_high"], color=color, alpha=0.2, lw=0
        )
