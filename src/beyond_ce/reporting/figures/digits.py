"""Multiplication by the lengths of its factors, as heat maps."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from beyond_ce.reporting.figures.style import heat_map, norm_of, style
from beyond_ce.reporting.paper import PAPER_DIR

Grids = Mapping[str, pd.DataFrame]  # title -> digits of one factor x digits of the other


def digit_grids(tasks: pd.DataFrame, metric: str) -> dict[str, pd.DataFrame]:
    """A metric of every pair of factor lengths: row label -> grid, the mean over seeds.

    Rows without any number are left out.

    Args:
        tasks: results/tables/<scale>/<id>-tasks.csv; tasks are named like "3x2". A pair of lengths
            belongs to one split only, so the splits share a grid.
        metric: "mape", for example.
    """
    grids = {}
    known = tasks[(tasks["metric"] == metric) & tasks["mean"].notna()]
    for row, lines in known.groupby("row", sort=False):
        lengths = lines["task"].str.extract(r"^(\d+)x(\d+)$").astype(int)
        cells = pd.Series(lines["mean"].to_numpy(), index=[lengths[0], lengths[1]])
        grid = cells.unstack().sort_index().sort_index(axis="columns")
        grids[str(row)] = grid.rename_axis(index=None, columns=None)
    return grids


def paper_digit_grids() -> dict[str, pd.DataFrame]:
    """The paper's epochs until MAPE < 0.5, in the form of `digit_grids`.

    NOTE: the paper numbers its six lines and columns from 0; we take them for 1 to 6 digits.
    """
    frame = pd.read_csv(PAPER_DIR / "ntl" / "sample_efficiency.csv")
    grids = {}
    for loss, lines in frame.groupby("loss", sort=False):
        grid = lines.set_index("digits_row").drop(columns="loss")
        grid.columns = pd.Index([int(name.removeprefix("d")) + 1 for name in grid.columns])
        grid.index = grid.index + 1
        grids[f"{loss}, paper"] = grid
    return grids


def digit_grid(grids: Grids, label: str, columns: int = 4) -> Figure:
    """Heat maps on one colour scale; a pair without a number stays blank.

    Args:
        grids: from `digit_grids` or `paper_digit_grids`.
        label: what the colour means, with its unit.
        columns: heat maps in a line.
    """
    columns = min(columns, len(grids))
    lines = -(-len(grids) // columns)
    values = [grid.to_numpy(dtype=float) for grid in grids.values()]
    norm = norm_of(np.concatenate([cells.ravel() for cells in values]))
    with style():
        figure, axes = plt.subplots(
            lines, columns, figsize=(2.7 * columns + 0.8, 2.7 * lines), squeeze=False
        )
        for i, ax in enumerate(axes.flat):
            if i >= len(grids):
                ax.set_axis_off()
        for ax, (title, grid), cells in zip(axes.flat, grids.items(), values, strict=False):
            image = heat_map(ax, cells, norm, ".2g")
            ax.set_aspect("equal")
            ax.set_xticks(range(len(grid.columns)), list(grid.columns))
            ax.set_yticks(range(len(grid.index)), list(grid.index))
            ax.set_title(title)
        for ax in axes[-1]:
            ax.set_xlabel("digits of one factor")
        for ax in axes[:, 0]:
            ax.set_ylabel("digits of the other")
        figure.colorbar(image, ax=axes, label=label, shrink=0.8, aspect=30)
    return figure
