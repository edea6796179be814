import pytest

from beyond_ce.configuration import CONF_DIR
from beyond_ce.reporting.figures import size_curves
from beyond_ce.reporting.figures.sizes import size_of
from beyond_ce.reporting.numbers import tabulate
from beyond_ce.reporting.tables import Job, load_table


def test_a_label_begins_with_a_size():
    assert size_of("0.2M, 400 names, n = 1") == (2e5, "400 names, n = 1")
    assert size_of("1B, n = 2") == (1e9, "n = 2")
    with pytest.raises(ValueError, match="does not begin with a size"):
        size_of("n = 2")


@pytest.mark.parametrize("table_id", ["mtp-fig7", "mtp-figs14"])
def test_rows_of_one_kind_are_a_line_over_the_sizes(table_id, tmp_path):
    whole = load_table(CONF_DIR / "table" / f"{table_id}.yaml")
    table = whole.at("paper")
    metrics = [f"test/{column.metric}" for column in table.columns]
    reports = {
        Job(row.label, seed, ()): {
            "metrics": dict.fromkeys(metrics, size_of(row.label)[0] / 1e9 + 0.1 * seed)
        }
        for row in table.rows
        for seed in range(2)
    }
    figure = size_curves(table, tabulate(whole, reports))
    figure.savefig(tmp_path / "sizes.png")
    assert len(figure.axes) == len(table.columns)
    ax = figure.axes[0]
    assert ax.get_legend_handles_labels()[1] == ["n = 1", "n = 2"]
    assert list(ax.lines[1].get_xdata()) == [1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9]
    assert ax.lines[1].get_ydata()[-1] == pytest.approx(105)
    assert ax.get_xscale() == "log"


def test_a_table_without_runs_draws_the_axes(tmp_path):
    table = load_table(CONF_DIR / "table" / "mtp-fig7.yaml")
    figure = size_curves(table.at("cpu"), tabulate(table, {}))
    figure.savefig(tmp_path / "empty.png")
    assert figure.axes[0].get_legend() is None
