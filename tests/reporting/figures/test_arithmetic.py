import numpy as np
import pytest

from beyond_ce.reporting.figures import COLORS, loss_landscape, losses_at, table2_figure
from beyond_ce.reporting.numbers import tabulate
from beyond_ce.reporting.tables import PAPER_DIR, Job, load_table

digits = np.eye(10)


def test_losses_by_hand():
    ambiguous = losses_at((digits[0] + digits[8]) / 2, label=4)
    assert ambiguous["NTL-MSE"] == 0  # the mean is right
    assert ambiguous["NTL-WAS"] == 4  # every bit of mass is four away
    assert np.isinf(ambiguous["CE"])
    near, far = (losses_at((digits[4] + digits[other]) / 2, label=4) for other in (5, 9))
    assert near["CE"] == far["CE"] == pytest.approx(np.log(2))
    assert (near["NTL-WAS"], far["NTL-WAS"]) == (0.5, 2.5)
    assert (near["NTL-MSE"], far["NTL-MSE"]) == (0.25, 6.25)


def test_landscape_draws(tmp_path):
    figure = loss_landscape()
    figure.savefig(tmp_path / "landscape.png")
    assert [ax.get_title() for ax in figure.axes[:3]] == ["CE", "NTL-MSE", "NTL-WAS"]


@pytest.mark.parametrize("n_seeds", [0, 1, 3])
def test_table_2_draws_with_and_without_runs(tmp_path, n_seeds):
    table = load_table(PAPER_DIR.parents[1] / "conf" / "table" / "ntl-2.yaml")
    rng = np.random.default_rng(0)
    names = [f"{split}/{column.metric}" for split in table.splits for column in table.columns]
    reports = {
        Job(row.label, seed, ()): {"metrics": {name: rng.uniform() for name in names}}
        for row in table.rows
        for seed in range(n_seeds)
    }
    figure = table2_figure(tabulate(table, reports))
    figure.savefig(tmp_path / "table.png")
    ours = figure.axes[0]
    assert ours.get_title() == "ours, interpolate"
    assert set(ours.get_legend_handles_labels()[1]) == set(COLORS)
    bottom = figure.axes[-1].get_xticklabels()
    assert [tick.get_text() for tick in bottom] == ["0.15", "0.3", "0.8", "2"]
