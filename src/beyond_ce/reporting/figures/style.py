"""Shared by all figures: colours, markers, the layout, and heat maps with their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.image import AxesImage
from numpy.typing import NDArray

# Okabe and Ito's palette, distinguishable with every common colour vision.
COLORS = {
    "CE": "#4D4D4D",
    "NTL-MSE": "#E69F00",
    "NTL-WAS": "#0072B2",
    "NTL-MAE": "#009E73",
    "NTL-Huber": "#CC79A7",
}
OTHER = "#56B4E9"  # rows with none of these losses
BETTER, WORSE, UNDECIDED = "#009E73", "#D55E00", "#666666"
LINES = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"]
"""Of curves, in their order."""
MARKERS = {"CE": "D", "NTL-MSE": "s", "NTL-WAS": "o", "NTL-MAE": "^", "NTL-Huber": "v"}
PAPER: dict[str, Any] = {
    "linestyle": "none",
    "marker": "D",
    "markerfacecolor": "none",
    "markeredgecolor": "black",
    "markersize": 6,
}
_STYLE: dict[Any, Any] = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Figures drawn within it have the common layout."""
    with plt.rc_context(_STYLE):
        yield


def split_loss(label: str) -> tuple[str, str | None]:
    """A row's label without its loss and weight, and the loss: "GPT-2 CE" -> ("GPT-2", "CE")."""
    words = re.findall(r"[^ ,]+", label)
    loss = next((word for word in words if word in COLORS), None)
    rest = [word for word in words if word != loss and not word.startswith("λ=")]
    return " ".join(rest), loss


def color_of(label: str) -> str:
    """The colour of a row's loss."""
    loss = split_loss(label)[1]
    return COLORS[loss] if loss else OTHER


def norm_of(values: NDArray[np.float64]) -> Normalize:
    """One colour scale for all finite values, logarithmic where they span orders of magnitude."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    return LogNorm(low, high) if low > 0 and high > 50 * low else Normalize(low, high)


def heat_map(ax: Axes, values: NDArray[np.float64], norm: Normalize, spec: str) -> AxesImage:
    """Colours with their numbers; NaN stays blank.

    Args:
        values: [lines, columns].
        spec: format of the numbers.
    """
    image = ax.imshow(values, cmap="viridis", norm=norm, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            # The light end of the map needs dark text.
            color = "black" if norm(value) > 0.6 else "white"
            ax.text(j, i, f"{value:{spec}}", ha="center", va="center", color=color, fontsize=8)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return image


def curve(
    ax: Axes, cells: pd.DataFrame, over: str, columns: tuple[str, str, str], label: str, color: str
) -> None:
    """Values over the column `over`, with a band; nothing where there are no cells.

    Args:
        columns: of the value, and of the lower and upper end of its interval.
    """
    value, low, high = (cells[name] for name in columns)
    if len(cells):
        ax.plot(cells[over], value, "o-", color=color, markersize=4, label=label)
        ax.fill_between(cells[over], low, high, color=color, alpha=0.15, lw=0)


def within_percent(ax: Axes, cells: pd.DataFrame) -> None:
    """Ends the axis of percentages at 0, and at 100 if an interval goes beyond."""
    top = cells[["mean", "ci_high"]].max().max()
    if top > 0:
        ax.set_ylim(0, min(100, 1.08 * top))
