"""The ledger of claims as one figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from beyond_ce.reporting.figures.style import BETTER, PAPER, UNDECIDED, WORSE, style
from beyond_ce.reporting.markdown import interval
from beyond_ce.reporting.tables import Table
from beyond_ce.reporting.verdicts import Effect, Finding, Verdict, spec_of

VERDICT_STYLES = {  # marker and colour: either alone tells the verdicts apart
    Verdict.REPRODUCED: ("o", BETTER),
    Verdict.NO_EFFECT: ("D", "#0072B2"),
    Verdict.UNDECIDED: ("s", UNDECIDED),
    Verdict.NOT_TESTABLE: ("", "#8C8C8C"),
    Verdict.CONTRADICTED: ("X", WORSE),
}


def claims_figure(findings: Sequence[Finding], tables: Mapping[str, Table]) -> Figure:
    """A line per claim: the effect of its weakest condition with the 95% interval, and the paper's.

    Right of zero speaks for the claim. Effects have different units, so each line is scaled to the
    largest number on it: signs and proportions within a line mean something, lengths of two lines
    cannot be compared. The numbers are at the right.

    Args:
        tables: id -> definition of every table that the claims name.
    """
    n = len(findings)
    with style():
        figure, ax = plt.subplots(figsize=(10, 0.27 * n + 1.3))
        ax.axvline(0, color="black", linewidth=0.8)
        for y, finding in enumerate(findings):
            effect = finding.weakest
            draw_effect(ax, y, effect, finding.verdict)
            _, color = VERDICT_STYLES[finding.verdict]
            text = interval(effect.ours, spec_of(finding, tables)).strip("*")
            if finding.verdict is Verdict.NOT_TESTABLE:
                text = finding.label
            ax.text(1.12, y, text, color=color, va="center", fontsize=8)
            if y and finding.claim.table != findings[y - 1].claim.table:
                ax.axhline(y - 0.5, color="#DDDDDD", linewidth=0.6, zorder=0)
        names = [f"{finding.claim.id}  ({finding.claim.table})" for finding in findings]
        ax.set_yticks(range(n), names, fontsize=8)
        ax.set_ylim(n - 0.4, -0.6)
        ax.set_xlim(-1.08, 1.08)
        ax.set_xticks([-1, 0, 1], ["against the claim", "0", "for the claim"])
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        figure.legend(handles=_legend(findings), loc="outside upper center", ncols=5)
    return figure


def draw_effect(ax: Axes, y: int, effect: Effect, verdict: Verdict, size: float = 1.0) -> None:
    """Draws an effect with its interval, and the paper's, at height y, scaled as one line.

    Args:
        size: of markers and lines, relative to those of `claims_figure`.
    """
    ours = effect.ours
    values = (ours.mean, ours.low, ours.high, effect.paper)
    unit = max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0
    marker, color = VERDICT_STYLES[verdict]
    ax.plot([ours.low / unit, ours.high / unit], [y, y], color=color, linewidth=2 * size)
    ax.plot(ours.mean / unit, y, marker=marker, color=color, markersize=6 * size)
    ax.plot(effect.paper / unit, y, **(PAPER | {"markersize": PAPER["markersize"] * size}))


def _legend(findings: Sequence[Finding]) -> list[Line2D]:
    verdicts = [finding.verdict for finding in findings]
    handles = [
        Line2D([], [], marker=marker, color=color, linewidth=2, label=f"{verdict.value} ({count})")
        for verdict, (marker, color) in VERDICT_STYLES.items()
        if (count := verdicts.count(verdict)) and verdict is not Verdict.NOT_TESTABLE
    ]
    return [*handles, Line2D([], [], label="paper", **PAPER)]
