"""pass@k with intervals: over k, of the rows of a table or of one run; and over the temperature."""

from __future__ import annotations

import re
from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from beyond_ce.reporting.figures.style import LINES, curve, style
from beyond_ce.reporting.markdown import heading
from beyond_ce.reporting.tables import Table

AT = {
    "oracle": "at the best temperature for each k",
    "held_out": "at a temperature chosen on other problems",
}


def pass_at_k_curves(table: Table, frame: pd.DataFrame, at: str = "oracle") -> Figure:
    """pass@k over k, a line per row and a panel per split; bands are 95% intervals over seeds.

    Args:
        frame: results/tables/<scale>/<id>.csv, with pass@k in percent.
        at: which temperature's pass@k: "oracle" or "held_out", see `CodeSamples`.
    """
    panels = [(part, split) for part in table.parts for split in part.splits]
    labels = [row.label for row in table.rows if row.overrides is not None]
    with style():
        figure, axes = plt.subplots(
            1, len(panels), figsize=(4.6 * len(panels) + 0.6, 3.6), sharey=True, squeeze=False
        )
        for ax, (part, split) in zip(axes[0], panels, strict=True):
            pattern = rf"{re.escape(split)}/pass@(\d+)@{at}"
            found = frame[frame["metric"].str.fullmatch(pattern) & (frame["n_seeds"] > 0)]
            found = found.assign(k=found["metric"].str.extract(pattern, expand=False).astype(int))
            for label, color in zip(labels, LINES * len(labels), strict=False):
                cells = found[found["row"] == label].sort_values("k")
                curve(ax, cells, "k", ("mean", "ci_low", "ci_high"), label, color)
            ax.set_title(f"{heading(part, split)}, {AT[at]}")
            _finish(ax)
    return figure


def pass_at_k_by_temperature(metrics: Mapping[str, float], split: str = "test") -> Figure:
    """pass@k over k, a line per temperature of one run; bands are 90% intervals over problems.

    Args:
        metrics: of a report, with those of `CodeSamples`.
    """
    pattern = rf"{re.escape(split)}/pass@(\d+)@t([\d.]+)"
    found = [match for match in (re.fullmatch(pattern, name) for name in metrics) if match]
    cells = pd.DataFrame(
        {
            "k": [int(match[1]) for match in found],
            "temperature": [float(match[2]) for match in found],
            "value": [100 * metrics[match[0]] for match in found],
            "low": [100 * metrics[f"{match[0]}@low"] for match in found],
            "high": [100 * metrics[f"{match[0]}@high"] for match in found],
        }
    ).sort_values(["temperature", "k"])
    with style():
        figure, ax = plt.subplots(figsize=(5.2, 3.6))
        lines = list(cells.groupby("temperature"))
        for (t, line), color in zip(lines, LINES * len(lines), strict=False):
            curve(ax, line, "k", ("value", "low", "high"), f"temperature {t:g}", color)
        _finish(ax)
    return figure


def pass_at_k_over_temperature(table: Table, frame: pd.DataFrame) -> Figure:
    """pass@k over the temperature, a line per row and a panel per k; bands are 95% intervals over
    seeds.

    Args:
        frame: results/tables/<scale>/<id>.csv, with pass@k in percent at every temperature.
    """
    (split,) = table.splits
    pattern = rf"{re.escape(split)}/pass@(\d+)@t([\d.]+)"
    found = frame[frame["metric"].str.fullmatch(pattern) & (frame["n_seeds"] > 0)]
    parts = found["metric"].str.extract(pattern).astype(float)
    found = found.assign(k=parts[0].astype(int), temperature=parts[1])
    labels = [row.label for row in table.rows if row.overrides is not None]
    ks = sorted(found["k"].unique())
    with style():
        figure, axes = plt.subplots(
            1, max(1, len(ks)), figsize=(3.4 * max(1, len(ks)) + 0.6, 3.4), squeeze=False
        )
        for ax, k in zip(axes[0], ks, strict=False):
            for label, color in zip(labels, LINES * len(labels), strict=False):
                cells = found[(found["row"] == label) & (found["k"] == k)]
                values = ("mean", "ci_low", "ci_high")
                curve(ax, cells.sort_values("temperature"), "temperature", values, label, color)
            ax.set_title(f"pass@{k}")
            ax.set_xlabel("temperature")
            ax.set_ylabel("% of the problems")
            ax.set_ylim(0, max(1.0, ax.get_ylim()[1]))
        if axes[0, 0].get_legend_handles_labels()[0]:
            axes[0, 0].legend(fontsize=8)
    return figure


def _finish(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.set_xlabel("samples, k")
    ax.set_ylabel("pass@k, % of the problems")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8)
