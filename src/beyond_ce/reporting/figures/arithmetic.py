"""Table 2 of the NTL paper, and how its losses see errors."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from beyond_ce.reporting.figures.style import COLORS, MARKERS, style


def table2_figure(table: pd.DataFrame) -> Figure:
    """Accuracy and MAE against lambda, a column per split, CE as a horizontal band.

    The paper's numbers have rows of their own: its runs are larger and longer, so compare the
    shapes of the curves, not their heights.

    Args:
        table: results/tables/<scale>/ntl-2.csv.
    """
    lines = table.assign(
        loss=table["row"].str.split(" ").str[0],
        weight=table["row"].map(_weight),
    )
    metrics = {"accuracy": "Accuracy", "capped_mae": "MAE"}
    rows = [(metric, ours) for metric in metrics for ours in (True, False)]
    with style():
        figure, axes = plt.subplots(4, 2, figsize=(8, 10), sharex=True, squeeze=False)
        for axes_row, (metric, ours) in zip(axes, rows, strict=True):
            for ax, split in zip(axes_row, ("interpolate", "extrapolate"), strict=True):
                _against_weight(ax, lines[lines["metric"] == f"{split}/{metric}"], ours)
                ax.set_title(f"{'ours' if ours else 'paper'}, {split}")
                ax.set_ylabel(metrics[metric] if split == "interpolate" else "")
        for ax in axes[-1]:
            ax.set_xlabel("weight λ of the number token loss")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _weight(row: str) -> float:
    match = re.search(r"λ=([0-9.]+)", row)
    return float(match[1]) if match else float("nan")


def _against_weight(ax: Axes, lines: pd.DataFrame, ours: bool) -> None:
    value = "mean" if ours else "paper"
    # Shift the losses a little, so that points at the same lambda lie beside each other.
    losses = [loss for loss in MARKERS if loss != "CE"]
    shifts = dict(zip(losses, (0.96, 1.0, 1.04, 1.08), strict=True))
    for loss, series in lines.groupby("loss", sort=False):
        series = series.sort_values("weight")
        center = series[value].to_numpy(dtype=float)
        spread = np.zeros((2, len(series)))
        if ours:
            spread = np.vstack([center - series["ci_low"], series["ci_high"] - center])
        if loss == "CE":
            ax.axhline(center[0], color=COLORS["CE"], linestyle="--", label="CE")
            ax.axhspan(
                center[0] - spread[0, 0],
                center[0] + spread[1, 0],
                color=COLORS["CE"],
                alpha=0.12,
                linewidth=0,
            )
            continue
        ax.errorbar(
            series["weight"] * shifts[str(loss)],
            center,
            yerr=np.nan_to_num(spread),
            color=COLORS[str(loss)],
            marker=MARKERS[str(loss)],
            markersize=5,
            linewidth=1.3,
            capsize=2,
            label=str(loss),
        )
    ax.set_xscale("log")
    weights = sorted(lines["weight"].dropna().unique())
    ax.set_xticks(weights, [f"{weight:g}" for weight in weights])
    ax.minorticks_off()


def losses_at(probabilities: NDArray[np.float64], label: int) -> dict[str, NDArray[np.float64]]:
    """CE, NTL-MSE and NTL-WAS in closed form.

    Args:
        probabilities: [..., 10] over the digits.
        label: the right digit.

    Returns:
        name -> [...]; CE is infinite where the label has no mass.
    """
    digits = np.arange(10)
    with np.errstate(divide="ignore"):
        ce = -np.log(probabilities[..., label])
    return {
        "CE": ce,
        "NTL-MSE": (probabilities @ digits - label) ** 2,
        "NTL-WAS": probabilities @ np.abs(digits - label).astype(float),
    }


def loss_landscape(label: int = 4) -> Figure:
    """What each loss says about mass on wrong digits, after the paper's illustration.

    Above: half the mass on the label, half on another digit: CE does not see which digit. Below:
    mass on 0 and on 8, the rest on the label: NTL-MSE is zero on a whole line, where the two errors
    cancel in the mean; NTL-WAS is zero at the label alone.
    """
    digits = np.arange(10)
    mixtures = 0.5 * np.eye(10)[digits] + 0.5 * np.eye(10)[label]
    low, high = 0, 2 * label
    grid = np.linspace(0, 1, 201)
    p_low, p_high = np.meshgrid(grid, grid)
    plane = np.zeros((*p_low.shape, 10))
    plane[..., low], plane[..., high] = p_low, p_high
    plane[..., label] = 1 - p_low - p_high
    outside = plane[..., label] < -1e-9
    plane[..., label] = np.maximum(plane[..., label], 0)
    with style():
        figure, axes = plt.subplots(2, 3, figsize=(9.5, 6))
        for ax, (name, values) in zip(axes[0], losses_at(mixtures, label).items(), strict=True):
            ax.bar(digits, values, color=COLORS[name], width=0.7)
            ax.set_title(name)
            ax.set_xticks(digits)
            ax.set_xlabel(f"digit with half the mass\n(the other half on {label})")
        for ax, (name, values) in zip(axes[1], losses_at(plane, label).items(), strict=True):
            surface = np.where(outside, np.nan, np.minimum(values, 5 if name == "CE" else np.inf))
            mesh = ax.pcolormesh(grid, grid, surface, cmap="viridis", rasterized=True)
            ax.contour(grid, grid, surface, levels=8, colors="white", linewidths=0.5, alpha=0.6)
            _mark_minima(ax, name)
            ax.set_aspect("equal")
            ax.set_xlabel(f"mass on {low}")
            figure.colorbar(mesh, ax=ax, shrink=0.75, extend="max" if name == "CE" else "neither")
        axes[0, 0].set_ylabel("loss")
        axes[1, 0].set_ylabel(f"mass on {high}")
    return figure


def _mark_minima(ax: Axes, name: str) -> None:
    if name == "NTL-MSE":
        # Equal mass on both sides of the label leaves the mean where it should be.
        ax.plot([0, 0.5], [0, 0.5], color="#D55E00", linewidth=2.5, label="all minima")
    else:
        ax.plot(0, 0, "o", color="#D55E00", clip_on=False, zorder=3, label="the minimum")
    ax.legend(loc="upper right", fontsize=8)
