import numpy as np
import pytest

from beyond_ce.reporting.figures import colored_text, head_curves, tokens_of_each_head
from beyond_ce.reporting.figures.heads import settings
from beyond_ce.reporting.numbers import tabulate
from beyond_ce.reporting.tables import PAPER_DIR, Job, load_table


def made_up(table_id, **values):
    """A table and its frame, in which every metric of three seeds is what `values` say, or 1."""
    table = load_table(PAPER_DIR.parents[1] / "conf" / "table" / f"{table_id}.yaml")
    splits = [split for part in table.parts for split in part.splits]
    reports = {
        Job(row.label, seed, ()): {
            "metrics": {
                f"{split}/{column.metric}@{row.variant}": values.get(column.metric, np.ones_like)(
                    float(row.variant[1:].split("b")[0])
                )
                for split in splits
                for column in table.metrics
            }
        }
        for row in table.rows
        if row.scales is None or "cpu" in row.scales
        for seed in range(3)
    }
    return table, tabulate(table, reports)


def test_settings_are_the_numbers_of_a_label():
    assert settings("k = 2") == {"k": 2}
    assert settings("n = 16, k = 12") == {"n": 16, "k": 12}
    assert settings("batch 8, k = 4") == {"batch": 8, "k": 4}


@pytest.mark.parametrize(
    ("table_id", "x", "lines", "places"),
    [
        ("mtp-s2", "k", [], [1, 2, 3, 4]),
        ("mtp-s3", "k", ["n = 8", "n = 16"], [1, 2, 4, 8]),
        ("mtp-decoding", "k", ["batch = 1", "batch = 8"], [1, 2, 3, 4]),
        ("mtp-figs10", "batch", [f"k = {k}" for k in (1, 2, 3, 4)], [1, 2, 4, 8, 16]),
    ],
)
def test_rows_that_differ_in_one_setting_are_a_line(table_id, x, lines, places, tmp_path):
    table, frame = made_up(table_id, speedup=np.sqrt)
    figure = head_curves(table, frame, ["speedup", "tokens_per_forward"], x)
    figure.savefig(tmp_path / "curves.png")
    ax = figure.axes[0]
    assert ax.get_ylabel() == "Speed-up"
    assert ax.get_legend_handles_labels()[1] == lines
    assert list(ax.lines[0].get_xdata()) == places
    if x == "k":
        assert ax.lines[0].get_ydata() == pytest.approx(np.sqrt(places))
        assert all(tick == int(tick) for tick in ax.get_xticks())
    if table_id == "mtp-s2":
        assert list(ax.lines[1].get_ydata()) == [1.0, 1.85, 2.54, 3.05]  # the paper's


def test_a_table_without_runs_draws_the_axes(tmp_path):
    table = load_table(PAPER_DIR.parents[1] / "conf" / "table" / "mtp-s2.yaml")
    figure = head_curves(table, tabulate(table, {}), ["speedup"])
    figure.savefig(tmp_path / "empty.png")
    assert [ax.get_title() for ax in figure.axes] == ["Code: code", "Prose: prose", "Books: books"]


def test_a_heads_share_is_what_it_adds_to_the_tokens(tmp_path):
    table, frame = made_up("mtp-s2", tokens_per_forward=lambda k: 1 + 0.5 * (k - 1))
    figure = tokens_of_each_head(table, frame)
    figure.savefig(tmp_path / "heads.png")
    own, true, paper = figure.axes[0].lines
    assert list(own.get_xdata()) == [2, 3, 4]
    assert list(own.get_ydata()) == [0.5, 0.5, 0.5]
    assert list(true.get_ydata()) == [0, 0, 0]
    assert list(paper.get_ydata()) == pytest.approx([0.94, 0.84, 0.72])


def test_what_came_in_one_forward_is_one_patch():
    text = colored_text("a<b\n", ["if ", "x", ":\n"], [3, 1, 2])
    assert text.count("<span") == 1 + 3 + 3  # the prompt, the pieces, the legend
    assert "a&lt;b\n</span>" in text
    assert ">if </span>" in text and ":↵\n</span>" in text
    colors = [part.split(";")[0] for part in text.split("background:")[1:]]
    assert colors[0] == colors[5] and colors[1] == colors[3] and colors[2] == colors[4]
    assert len(set(colors)) == 3
