import pytest
from matplotlib.colors import to_hex

from beyond_ce.reporting.figures import (
    pass_at_k_by_temperature,
    pass_at_k_curves,
    pass_at_k_over_temperature,
)
from beyond_ce.reporting.figures.style import LINES
from beyond_ce.reporting.numbers import tabulate
from beyond_ce.reporting.tables import Column, Job, Row

KS = (100, 1, 10)  # in any order


@pytest.fixture
def contests(table):
    table.splits, table.name = ["test"], None
    table.columns = [
        Column(f"pass@{k}@{at}", f"pass@{k}", times=100)
        for k in KS
        for at in ("oracle", "held_out")
    ]
    table.checks, table.contrasts, table.baseline = [], [], None
    table.rows = [Row("n = 4", []), Row("n = 1", []), Row("the paper's only", None)]
    return table


def frame_of(table):
    """pass@k of .1, .2 and .4, a tenth less at the temperature chosen on other problems."""
    shares = dict(zip((1, 10, 100), (0.1, 0.2, 0.4), strict=True))
    reports = {
        Job(row, seed, ()): {
            "metrics": {
                f"test/pass@{k}@{at}": share * less + seed / 100
                for k, share in shares.items()
                for at, less in (("oracle", 1.0), ("held_out", 0.9))
            }
        }
        for row in ("n = 4", "n = 1")
        for seed in (-1, 0, 1)
    }
    return tabulate(table, reports)


@pytest.mark.parametrize(("at", "first"), [("oracle", 10), ("held_out", 9)])
def test_a_line_per_row_over_k_in_order(contests, at, first, tmp_path):
    figure = pass_at_k_curves(contests, frame_of(contests), at)
    figure.savefig(tmp_path / "curves.png")
    (ax,) = figure.axes
    assert [line.get_label() for line in ax.lines] == ["n = 4", "n = 1"]
    assert [to_hex(line.get_color()).upper() for line in ax.lines] == LINES[:2]
    for line in ax.lines:
        assert list(line.get_xdata()) == [1, 10, 100]
        assert list(line.get_ydata()) == pytest.approx([first, 2 * first, 4 * first])
    assert len(ax.collections) == 2  # the bands
    assert ax.get_xscale() == "log"


def test_without_numbers_the_axes_stay_empty(contests, tmp_path):
    empty = tabulate(contests, {})
    pass_at_k_curves(contests, empty).savefig(tmp_path / "empty.png")


def test_a_run_has_a_line_per_temperature(tmp_path):
    values = {(1, 0.2): 0.3, (10, 0.2): 0.4, (1, 0.8): 0.1, (10, 0.8): 0.5}
    metrics = {
        f"test/pass@{k}@t{t:g}{end}": value + shift
        for (k, t), value in values.items()
        for end, shift in (("", 0.0), ("@low", -0.05), ("@high", 0.05))
    }
    metrics |= {"test/pass@1@oracle": 0.3, "other/pass@1@t0.2": 0.9}
    figure = pass_at_k_by_temperature(metrics)
    figure.savefig(tmp_path / "temperatures.png")
    (ax,) = figure.axes
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines) == ["temperature 0.2", "temperature 0.8"]
    assert list(lines["temperature 0.8"].get_ydata()) == pytest.approx([10, 50])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((25, 45))


def test_a_panel_per_k_over_the_temperature(contests, tmp_path):
    contests.checks = [
        Column(f"pass@{k}@t{t}", f"pass@{k} at {t}", times=100)
        for k in (10, 1)
        for t in ("1.4", "0.2", "1")
    ]
    reports = {
        Job(row, seed, ()): {
            "metrics": {
                f"test/pass@{k}@t{t}": k * float(t) / 100 + seed / 1000
                for k in (1, 10)
                for t in ("0.2", "1", "1.4")
            }
        }
        for row in ("n = 4", "n = 1")
        for seed in (-1, 0, 1)
    }
    figure = pass_at_k_over_temperature(contests, tabulate(contests, reports))
    figure.savefig(tmp_path / "temperatures.png")
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("pass@1", "pass@10")
    for ax, k in ((first, 1), (second, 10)):
        assert [line.get_label() for line in ax.lines] == ["n = 4", "n = 1"]
        assert len(ax.collections) == 2
        assert ax.get_ylim()[0] == 0
        for line in ax.lines:
            assert list(line.get_xdata()) == [0.2, 1, 1.4]
            assert list(line.get_ydata()) == pytest.approx([0.2 * k, 1 * k, 1.4 * k])
    pass_at_k_over_temperature(contests, tabulate(contests, {})).savefig(tmp_path / "empty.png")
