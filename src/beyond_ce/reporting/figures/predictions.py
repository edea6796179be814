"""Answers against targets, and where probability lies before an answer is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from beyond_ce.reporting.figures.style import COLORS, MARKERS, color_of, split_loss, style
from beyond_ce.reporting.tables import Reports

_COLUMNS = 2  # panels in a line: a model with one loss and with the other
_SYMMETRIC = {"value": "symlog", "linthresh": 1}


def predicted_against_true(predictions: Mapping[str, pd.DataFrame]) -> Figure:
    """Every answer against its target on a logarithmic scale; right ones lie on the line.

    Args:
        predictions: title -> evaluation/<split>.parquet of a run, columns target_number and
            predicted_number. Titles count the answers without a number and those off the picture,
            which is limited so that a runaway answer does not squeeze all others together.
    """
    columns = min(_COLUMNS, len(predictions))
    lines = -(-len(predictions) // columns)
    with style():
        figure, axes = plt.subplots(
            lines, columns, figsize=(3.6 * columns, 3.8 * lines), squeeze=False
        )
        for ax in axes.flat[len(predictions) :]:
            ax.set_axis_off()
        for ax, (title, frame) in zip(axes.flat, predictions.items(), strict=False):
            known = frame[np.isfinite(frame["predicted_number"])]
            low, high = _range(frame["target_number"])
            ax.plot([low, high], [low, high], color=COLORS["CE"], linewidth=0.8)
            ax.scatter(
                known["target_number"],
                known["predicted_number"],
                s=6,
                alpha=0.35,
                linewidths=0,
                color=color_of(title),
                rasterized=True,
            )
            scale: dict[str, Any] = {"value": "log"} if low > 0 else _SYMMETRIC
            ax.set_xscale(**scale)
            ax.set_yscale(**scale)
            if low < 0:
                ax.set_xticks([-(power := 10.0 ** np.floor(np.log10(high))), 0, power])
            ax.set_xlim(low, high)
            bottom, top = (low / 10, high * 10) if low > 0 else (low * 10, high * 10)
            ax.set_ylim(bottom, top)
            off = int((~known["predicted_number"].between(bottom, top)).sum())
            counts = {"without a number": len(frame) - len(known), "off the picture": off}
            remarks = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            ax.set_title(f"{title}\n({remarks})" if remarks else title)
            ax.set_xlabel("true")
        for ax in axes[:, 0]:
            ax.set_ylabel("predicted")
    return figure


def _range(targets: pd.Series) -> tuple[float, float]:
    """Limits of the true axis: by ratio if all targets are positive, else symmetric about zero."""
    if targets.min() > 0:
        return targets.min() / 1.3, targets.max() * 1.3
    largest = max(targets.abs().max(), 1) * 1.2
    return -largest, largest


def number_mass(reports: Reports, split: str) -> Figure:
    """Where each row puts its probability among the digits, by distance to the right one.

    A line per row, the mean over seeds of the metrics `<split>/mass_at_0` to `mass_at_9`, where 0
    is the right digit (see evaluation.number_mass). Rows that differ only in the loss share a
    panel.
    """
    distances = np.arange(10)
    masses: dict[str, list[list[float]]] = {}
    for job, report in reports.items():
        mass = [report["metrics"].get(f"{split}/mass_at_{distance}") for distance in distances]
        if all(value is not None for value in mass):
            masses.setdefault(job.row, []).append(mass)
    panels = list(dict.fromkeys(split_loss(row)[0] for row in masses)) or [""]
    with style():
        figure, axes = plt.subplots(
            1, len(panels), figsize=(3.2 * len(panels) + 0.8, 3.4), sharey=True, squeeze=False
        )
        for row, seeds in masses.items():
            panel, loss = split_loss(row)
            ax = axes[0, panels.index(panel)]
            ax.plot(
                distances,
                np.mean(seeds, axis=0),
                color=color_of(row),
                marker=MARKERS.get(loss or "", "x"),
                markersize=4,
                linewidth=1.3,
                label=loss or row,
            )
            ax.set_title(panel)
            ax.set_yscale("log")
            ax.legend()
        for ax in axes[0]:
            ax.set_xticks(distances)
            ax.set_xlabel("distance to the right digit")
        axes[0, 0].set_ylabel("mean probability")
    return figure
