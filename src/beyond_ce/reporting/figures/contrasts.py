"""The contrasts of a table as dots with intervals."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from beyond_ce.reporting.figures.style import BETTER, UNDECIDED, WORSE, style
from beyond_ce.reporting.markdown import heading
from beyond_ce.reporting.tables import Table

_COLUMNS = ("mean", "ci_low", "ci_high")


def contrast_plot(table: Table, frame: pd.DataFrame) -> Figure:
    """A line per contrast and a panel per split and metric of the table's columns: its mean over
    seeds with the 95% interval, green where it is for the better, orange where for the worse, and
    grey where the interval includes zero. Contrasts of rows that are not run are left out.

    Args:
        frame: results/tables/<scale>/<id>.csv.
    """
    panels = [(part, s, c) for part in table.parts for s in part.splits for c in part.columns]
    known = set(frame["row"][frame["mean"].notna()])
    labels = [contrast.label for contrast in table.contrasts if contrast.label in known]
    with style():
        figure, axes = plt.subplots(
            1,
            len(panels),
            figsize=(3.2 * len(panels) + 2.4, 0.3 * len(labels) + 1.1),
            sharey=True,
            squeeze=False,
        )
        for ax, (part, split, column) in zip(axes[0], panels, strict=True):
            cells = frame[frame["metric"] == f"{split}/{column.metric}"].set_index("row")
            sign = -1 if column.better == "lower" else 1
            for y, label in enumerate(labels):
                if label not in cells.index:  # it has another metric only
                    continue
                mean, low, high = (float(cells[name][label]) for name in _COLUMNS)
                ends = sorted((sign * low, sign * high))
                color = BETTER if ends[0] > 0 else WORSE if ends[1] < 0 else UNDECIDED
                ax.plot([low, high], [y, y], color=color, linewidth=1.8)
                ax.plot(mean, y, "o", color=color, markersize=5.5)
            ax.axvline(0, color="black", linewidth=0.8, zorder=0)
            ax.set_title(heading(part, split))
            better = {"higher": " (right is better)", "lower": " (left is better)"}
            ax.set_xlabel(
                f"difference in {column.name.lower()}{better.get(column.better or '', '')}"
            )
        axes[0, 0].set_yticks(range(len(labels)), labels)
        axes[0, 0].set_ylim(len(labels) - 0.4, -0.6)
    return figure
