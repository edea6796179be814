import pandas as pd
import pytest

from beyond_ce.reporting.figures import contrast_plot
from beyond_ce.reporting.numbers import tabulate
from beyond_ce.reporting.tables import Contrast, Job


def test_contrasts_are_dots_and_their_colour_is_the_verdict(table, tmp_path):
    """Accuracy is better higher and MAE lower: more of both is green in one and orange in the
    other, and what includes zero is grey."""
    table.contrasts = [
        Contrast("more", {"NTL": 1, "CE": -1}),
        Contrast("nothing", {"NTL": 1, "noisy": -1}),
        Contrast("not run", {"NTL": 1, "huge": -1}),
    ]
    spread = {"CE": (0.1, 0.1, 0.1), "NTL": (0.5, 0.51, 0.49), "noisy": (0.1, 0.9, 0.5)}
    metrics = [f"{split}/{c.metric}" for split in table.splits for c in table.columns]
    table.rows = [
        table.rows[0],
        *[type(table.rows[0])(n, ["loss=x"]) for n in ("NTL", "noisy", "huge")],
    ]
    table.rows[0].label = "CE"
    reports = {
        Job(row, seed, ()): {"metrics": dict.fromkeys(metrics, value)}
        for row, values in spread.items()
        for seed, value in enumerate(values)
    }
    figure = contrast_plot(table, tabulate(table, reports))
    figure.savefig(tmp_path / "contrasts.png")
    panels = {ax.get_xlabel(): ax for ax in figure.axes}
    assert len(panels) == len(table.columns)
    for column in table.columns:
        ax = next(ax for name, ax in panels.items() if column.name.lower() in name)
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        more, nothing = ({"higher": "#009E73", "lower": "#D55E00"}[column.better], "#666666")
        assert [dot.get_color() for dot in dots] == [more, nothing]
        assert [float(dot.get_xdata()[0]) for dot in dots] == pytest.approx([0.4, 0.0])
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["more", "nothing"]


def test_contrasts_without_runs_draw_the_axes(table, tmp_path):
    empty = pd.DataFrame(columns=["row", "metric", "mean", "ci_low", "ci_high"])
    contrast_plot(table, empty).savefig(tmp_path / "empty.png")
