"""What several heads save: curves over their number, the gain of each head, a coloured text."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from beyond_ce.reporting.figures.style import COLORS, LINES, PAPER, style
from beyond_ce.reporting.markdown import heading
from beyond_ce.reporting.tables import Column, Part, Table

_AXES = {"k": "heads used, k", "batch": "prompts at a time"}


def settings(label: str) -> dict[str, int]:
    """The numbers in a row's label: "n = 8, k = 4" -> {"n": 8, "k": 4}."""
    return {name: int(value) for name, value in re.findall(r"(\w+) (?:= )?(\d+)", label)}


def words(label: str) -> list[str]:
    """The rest of a row's label: "recurrent, batch 8, k = 4" -> ["recurrent"]."""
    return [part for part in label.split(", ") if not settings(part)]


def head_curves(table: Table, frame: pd.DataFrame, metrics: Sequence[str], x: str = "k") -> Figure:
    """Metrics over the number of heads used, or over the batch size; a panel per split and metric.

    Bands are 95% intervals, open diamonds the paper's numbers. Rows that differ only in `x` are
    one line; lines without any number of ours are left out.

    Args:
        frame: results/tables/<scale>/<id>.csv; the rows of its table are named like
            "n = 8, k = 4".
        x: the setting along the axis, "k" or "batch".
    """
    panels = [
        (part, split, column)
        for part in table.parts
        for split in part.splits
        for column in part.metrics
        if column.metric in metrics
    ]
    width = len(metrics)
    height = -(-len(panels) // width)
    with style():
        figure, axes = plt.subplots(
            height, width, figsize=(3.9 * width, 3.0 * height), squeeze=False
        )
        for ax, panel in zip(axes.flat, panels, strict=True):
            _curves(ax, frame, panel, x)
    return figure


def _curves(ax: Axes, frame: pd.DataFrame, panel: tuple[Part, str, Column], x: str) -> None:
    part, split, column = panel
    selected = frame[frame["metric"] == f"{split}/{column.metric}"]
    lines: dict[str, list[tuple[int, pd.Series]]] = {}
    for _, cell in selected.iterrows():
        numbers = settings(cell["row"])
        place = numbers.pop(x)
        rest = ", ".join(
            [*words(cell["row"]), *(f"{name} = {value}" for name, value in numbers.items())]
        )
        lines.setdefault(rest, []).append((place, cell))
    lines = {
        rest: cells for rest, cells in lines.items() if any(c["n_seeds"] > 0 for _, c in cells)
    }
    colors = dict(zip(lines, LINES * len(lines), strict=False))
    for rest, points in lines.items():
        places = [place for place, _ in points]
        cells = pd.DataFrame([cell for _, cell in points])
        color = colors[rest]
        ax.plot(places, cells["mean"], "o-", color=color, markersize=4, label=rest or None)
        ax.fill_between(places, cells["ci_low"], cells["ci_high"], color=color, alpha=0.2, lw=0)
        ax.plot(places, cells["paper"], **(PAPER | {"markeredgecolor": color}))
    if column.metric == "speedup":
        ax.axhline(1, color=COLORS["CE"], linewidth=0.8, linestyle="--")
    if x == "batch":
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:.0f}")
    else:
        ax.locator_params(axis="x", integer=True)
    ax.set_title(heading(part, split))
    ax.set_xlabel(_AXES[x])
    ax.set_ylabel(column.name)
    if any(lines):
        ax.legend(fontsize=8)


def tokens_of_each_head(table: Table, frame: pd.DataFrame) -> Figure:
    """What each further head adds to the tokens per forward: how often its draft is accepted.

    A panel per split: in the model's own text, along the true text, and the paper's models.

    Args:
        frame: results/tables/<scale>/mtp-s2.csv.
    """
    splits = [(part, split) for part in table.parts for split in part.splits]
    with style():
        figure, axes = plt.subplots(
            1, len(splits), figsize=(3.9 * len(splits), 3.0), sharey=True, squeeze=False
        )
        for ax, (part, split) in zip(axes[0], splits, strict=True):
            own_text = frame[frame["metric"] == f"{split}/tokens_per_forward"]
            true_text = frame[frame["metric"] == f"{split}/true_text_tokens_per_forward"]
            heads = [settings(row)["k"] for row in own_text["row"]][1:]
            ax.plot(heads, _gains(own_text["mean"]), "o-", color=LINES[0], label="in its own text")
            ax.plot(
                heads, _gains(true_text["mean"]), "s-", color=LINES[1], label="in the true text"
            )
            ax.plot(heads, _gains(own_text["paper"]), **PAPER, label="paper")
            ax.set_xticks(heads)
            ax.set_ylim(0, 1)
            ax.set_title(heading(part, split))
            ax.set_xlabel("head")
            ax.legend(fontsize=8)
        axes[0, 0].set_ylabel("share of forwards that its token is used in")
    return figure


def _gains(values: pd.Series) -> list[float]:
    return [after - before for before, after in pairwise(values)]


def colored_text(prompt: str, pieces: Sequence[str], sizes: Sequence[int]) -> str:
    """A text as HTML; the tokens of one forward are one patch: the darker, the more tokens.

    Args:
        prompt: the start that the text continues, in grey.
        pieces: what each forward gave, as in evaluation/<split>.parquet.
        sizes: tokens of each piece.
    """
    most = max(sizes, default=1)
    shades = colormaps["YlGnBu"](np.linspace(0.08, 0.6, most))
    colors = {size: to_hex(shade) for size, shade in enumerate(shades, start=1)}

    def patch(text: str, size: int) -> str:
        # A newline has no width to colour, so it gets a sign of its own.
        shown = html.escape(text).replace("\n", "↵\n")
        edge = "box-shadow:inset 1px 0 #888"
        return f'<span style="background:{colors[size]};color:black;{edge}">{shown}</span>'

    text = "".join(patch(piece, size) for piece, size in zip(pieces, sizes, strict=True))
    legend = " ".join(patch(f" {size} ", size) for size in colors)
    start = f'<span style="color:#888">{html.escape(prompt)}</span>'
    return f"<pre>{start}{text}</pre><p>tokens in one forward: {legend}</p>"
