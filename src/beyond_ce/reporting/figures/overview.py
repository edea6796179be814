"""Both papers in one picture: what each is about, and the verdicts on its claims."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from beyond_ce.reporting.figures.arithmetic import losses_at
from beyond_ce.reporting.figures.claims import VERDICT_STYLES, draw_effect
from beyond_ce.reporting.figures.heads import settings, words
from beyond_ce.reporting.figures.style import COLORS, PAPER, style
from beyond_ce.reporting.verdicts import Finding, Verdict

_RIGHT_DIGIT = 4  # in the sketch of the losses
_POINTS: dict[str, Any] = {"markersize": 5, "linewidth": 1.6}
OVERVIEW_TABLES = {  # table -> how its models decode, and the colour
    "mtp-decoding": ("linear heads", "#0072B2"),
    "mtp-s2": ("transformer heads", "#E69F00"),
}


def overview(
    findings: Mapping[str, Sequence[Finding]], tables: Mapping[str, pd.DataFrame], scale: str
) -> Figure:
    """A column per paper: its idea or its main measurement above, its claims below.

    Above at the left are the losses in closed form, when half of the probability is on the right
    digit and half on another one. Above at the right is the speed of decoding code, one prompt at a
    time, relative to one head. Below, a line is the effect of a claim's weakest condition with its
    95% interval, scaled line by line (see `claims_figure`); right of zero speaks for the claim.

    Args:
        findings: "ntl" and "mtp" -> the findings of the paper at one scale.
        tables: ids of `OVERVIEW_TABLES` -> results/tables/<scale>/<id>.csv, where there is one.
    """
    with style():
        figure, axes = plt.subplots(2, 2, figsize=(9, 6.2), height_ratios=(1, 1.35))
        _losses(axes[0, 0])
        _speed(axes[0, 1], tables)
        for ax, paper in zip(axes[1], ("ntl", "mtp"), strict=True):
            _claims(ax, findings[paper])
            ax.set_title(f"The paper's {len(findings[paper])} claims, tested at scale {scale}")
        figure.legend(handles=_legend(), loc="outside lower center", ncols=2)
    return figure


def _losses(ax: Axes) -> None:
    digits = np.arange(10)
    mixtures = 0.5 * np.eye(10)[digits] + 0.5 * np.eye(10)[_RIGHT_DIGIT]
    wrong = digits != _RIGHT_DIGIT
    for name, text in (
        ("NTL-WAS", "NTL-WAS:\nfurther off\ncosts more"),
        ("CE", "cross-entropy:\nall the same"),
    ):
        values, color = losses_at(mixtures, _RIGHT_DIGIT)[name], COLORS[name]
        ax.plot(digits, np.where(wrong, values, np.nan), "o-", color=color, **_POINTS)
        ax.text(9.4, values[-1], text, color=color, va="center", fontsize=9)
    ax.axvline(_RIGHT_DIGIT, color="#BBBBBB", linewidth=0.8, linestyle="--")
    ax.text(
        _RIGHT_DIGIT,
        2.7,
        "right digit",
        ha="center",
        color="#666666",
        fontsize=9,
        backgroundcolor="white",
    )
    ax.set_xlim(-0.4, 9.4)
    ax.set_ylim(0, 2.9)
    ax.set_xticks(digits)
    ax.set_xlabel("wrong digit, with half of the probability")
    ax.set_ylabel("loss")
    ax.set_title("Number token loss (NTL)", fontweight="bold")


def _speed(ax: Axes, tables: Mapping[str, pd.DataFrame]) -> None:
    ax.axhline(1, color=COLORS["CE"], linewidth=0.8, linestyle="--")
    for table_id, (name, color) in OVERVIEW_TABLES.items():
        if table_id not in tables:
            continue
        frame = tables[table_id]
        cells = frame[frame["metric"] == "code/speedup"]
        # One prompt at a time, with the table's own heads and no other kind beside them.
        own = [settings(row).get("batch", 1) == 1 and not words(row) for row in cells["row"]]
        cells = cells[own]
        heads = [settings(row)["k"] for row in cells["row"]]
        ax.plot(heads, cells["mean"], "o-", color=color, **_POINTS)
        ax.fill_between(heads, cells["ci_low"], cells["ci_high"], color=color, alpha=0.2, lw=0)
        _label_line(ax, heads, cells["mean"], f"ours,\n{name}", color)
        if table_id == "mtp-s2":
            ax.plot(heads, cells["paper"], **PAPER)
            _label_line(ax, heads, cells["paper"], "paper, 7B", "black")
    ax.set_xlim(0.8, 4.2)
    ax.set_xticks([1, 2, 3, 4])
    ax.set_xlabel("heads used to decode code")
    ax.set_ylabel("speed, one head = 1")
    ax.set_title("Multi-token prediction (MTP)", fontweight="bold")


def _label_line(ax: Axes, heads: Sequence[int], values: pd.Series, text: str, color: str) -> None:
    """Writes a line's name beside its last point."""
    place = (heads[-1] + 0.2, values.iloc[-1])
    ax.text(*place, text, color=color, va="center", fontsize=9)


def _claims(ax: Axes, findings: Sequence[Finding]) -> None:
    ax.axvline(0, color="black", linewidth=0.8)
    right_of_axes = blended_transform_factory(ax.transAxes, ax.transData)
    y = 0
    for verdict in Verdict:
        group = [finding for finding in findings if finding.verdict is verdict]
        if not group:
            continue
        color = VERDICT_STYLES[verdict][1]
        for place, finding in enumerate(sorted(group, key=_relative_effect, reverse=True), start=y):
            draw_effect(ax, place, finding.weakest, verdict, size=0.6)
        ax.axhspan(y - 0.5, y + len(group) - 0.5, color=color, alpha=0.08, linewidth=0)
        ax.text(
            1.01,
            y + (len(group) - 1) / 2,
            textwrap.fill(f"{len(group)} {verdict.value}", 20),
            color=color,
            transform=right_of_axes,
            va="center",
            fontsize=9,
        )
        y += len(group)
    ax.set_ylim(y - 0.4, -0.6)
    ax.set_xlim(-1.08, 1.08)
    ax.set_xticks([-1, 0, 1], ["against the claim", "0", "for the claim"])
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


def _relative_effect(finding: Finding) -> float:
    ours = finding.weakest.ours
    unit = max(abs(ours.low), abs(ours.high))
    return ours.mean / unit if math.isfinite(unit) and unit > 0 else -math.inf


def _legend() -> list[Line2D]:
    ours = "ours, with 95% interval"
    return [
        Line2D([], [], color=COLORS["CE"], marker="s", markersize=4, linewidth=1.2, label=ours),
        Line2D([], [], label="the same in the paper", **(PAPER | {"markersize": 4})),
    ]
