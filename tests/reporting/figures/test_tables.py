import pandas as pd
import pytest

from beyond_ce.reporting.figures import COLORS, dot_plot, task_map
from beyond_ce.reporting.numbers import tabulate
from beyond_ce.reporting.tables import Job, Part, Row


def made(metrics, row="CE"):
    """Reports of three seeds: metric -> mean, with 10% more and less in two of them."""
    return {
        Job(row, seed, ()): {"metrics": {k: v * (1 + 0.1 * (seed - 1)) for k, v in metrics.items()}}
        for seed in range(3)
    }


def dots(ax):
    """(x, y) -> marker of every dot that is drawn."""
    marked = [line for line in ax.lines if line.get_marker() not in ("None", "")]
    return {
        (float(line.get_xdata()[0]), float(line.get_ydata()[0])): line.get_marker()
        for line in marked
        if pd.notna(line.get_xdata()[0])
    }


def test_dots_are_ours_and_diamonds_the_papers(table, reports, tmp_path):
    figure = dot_plot(table, tabulate(table, reports))
    figure.savefig(tmp_path / "dots.png")
    accuracy, mae = figure.axes
    assert [accuracy.get_xlabel(), mae.get_xlabel()] == ["Accuracy ↑", "MAE ↓"]
    assert [tick.get_text() for tick in accuracy.get_yticklabels()] == ["CE", "NTL λ=0.5", "xVal"]
    found = {(round(x, 3), y): marker for (x, y), marker in dots(accuracy).items()}
    assert found == {(0.2, 0): "o", (0.41, 1): "o", (0.3, 0): "D", (0.4, 1): "D", (0.1, 2): "D"}
    dashed = [line for line in accuracy.lines if line.get_linestyle() == "--"]
    assert dashed[0].get_xdata()[0] == pytest.approx(0.2)


def test_metrics_can_be_chosen_and_checks_be_among_them(table, reports):
    figure = dot_plot(table, tabulate(table, reports), ["invalid"])
    (ax,) = figure.axes
    assert ax.get_xlabel() == "Invalid"


def test_parts_have_lines_of_panels(table, reports):
    table.also = [Part(experiment="b", name="Jokes", splits=["other"], columns=table.columns[:1])]
    figure = dot_plot(table, tabulate(table, reports))
    assert [ax.get_title() for ax in figure.axes] == ["Test", "Test", "Jokes: other", ""]
    assert [text.get_text() for text in figure.axes[2].texts] == ["no number"]


def test_rows_that_differ_in_the_loss_share_a_line(table):
    table.rows = [Row("CE, digit", []), Row("NTL-WAS, digit", []), Row("CE, subword", [])]
    table.contrasts, table.baseline = [], None
    reports = made({"test/accuracy": 0.5}, "CE, digit") | made(
        {"test/accuracy": 0.7}, "NTL-WAS, digit"
    )
    figure = dot_plot(table, tabulate(table, reports), ["accuracy"], by_loss=True)
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["digit", "subword"]
    heights = [y for _, y in dots(ax)]
    assert heights[0] < 0 < heights[1] < 0.5
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["CE", "NTL-WAS", "paper"]
    assert ax.lines[0].get_color() == COLORS["CE"]


@pytest.mark.parametrize(
    ("values", "scale"), [((1, 2, 3), "linear"), ((1, 2, 900), "log"), ((1, 2, -900), "symlog")]
)
def test_a_runaway_value_does_not_squeeze_the_others(table, tmp_path, values, scale):
    table.rows = [Row(name, []) for name in "abc"]
    table.contrasts, table.baseline = [], None
    reports = {}
    for name, value in zip("abc", values, strict=True):
        reports |= made({"test/mae": value}, name)
    figure = dot_plot(table, tabulate(table, reports), ["mae"])
    figure.savefig(tmp_path / "dots.png")
    assert figure.axes[0].get_xscale() == scale


def test_far_numbers_of_the_paper_have_an_axis_of_their_own(table, tmp_path):
    table.rows = table.rows[:1]
    table.contrasts = []
    figure = dot_plot(table, tabulate(table, made({"test/mae": 0.1})), ["mae"])
    figure.savefig(tmp_path / "dots.png")
    ours, papers = figure.axes
    assert list(dots(ours).values()) == ["o"]
    assert dots(papers) == {(2.0, 0.0): "D"}
    assert papers.get_xlabel() == "paper's scale"


def test_the_task_map_has_the_rows_that_are_run(table, tmp_path):
    lines = [
        ("CE", "interpolate", "add", "accuracy", 0.5),
        ("CE", "extrapolate", "mul", "accuracy", 0.1),
        ("CE", "extrapolate", "mul", "mae", 9.0),
    ]
    tasks = pd.DataFrame(lines, columns=["row", "split", "task", "metric", "mean"])
    figure = task_map(table, tasks, "accuracy", "accuracy")
    figure.savefig(tmp_path / "map.png")
    above, below = figure.axes[:2]
    assert [ax.get_title() for ax in (above, below)] == ["Interpolation", "Extrapolation"]
    assert [tick.get_text() for tick in below.get_xticklabels()] == ["CE", "NTL λ=0.5"]
    assert [text.get_text() for text in (*above.texts, *below.texts)] == ["0.50", "0.10"]
