from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from beyond_ce.configuration import CONF_DIR
from beyond_ce.reporting.figures import accuracy_by_operations
from beyond_ce.reporting.figures.style import LINES
from beyond_ce.reporting.numbers import tabulate
from beyond_ce.reporting.tables import jobs, load_table

plt.switch_backend("agg")
IN_DOMAIN = {"cpu": 3, "gpu": 5}


def made_up(table_id, scale):
    """The table, and accuracies of 1/m for the first row, 1/m/2 for the second and so on."""
    table = load_table(CONF_DIR / "table" / f"{table_id}.yaml").at(scale)
    place = {row.label: number for number, row in enumerate(table.rows, start=1)}
    most = IN_DOMAIN[scale]
    reports = {
        job: {
            "metrics": {
                f"test/accuracy@{'in' if m <= most else 'out_of'}_domain/m={m}": 1
                / m
                / place[job.row]
                for m in range(1, 2 * most + 1)
            }
        }
        for job in jobs(table, scale)
    }
    return table, tabulate(table, reports)


@pytest.mark.parametrize(
    ("table_id", "scale", "panels"),
    [
        ("mtp-fig8", "cpu", [""]),
        ("mtp-fig8", "gpu", [""]),
        ("mtp-figs15", "cpu", ["0 pause tokens", "5 pause tokens", "10 pause tokens"]),
        ("mtp-figs16", "cpu", ["Smaller", "Larger"]),
        ("mtp-figs16", "gpu", ["Smaller", "Larger"]),
    ],
)
def test_a_line_per_row_over_m(
    table_id: str, scale: str, panels: list[str], tmp_path: Path
) -> None:
    figure = accuracy_by_operations(*made_up(table_id, scale))
    figure.savefig(tmp_path / "lines.png")
    assert [ax.get_title() for ax in figure.axes] == panels
    for panel, ax in enumerate(figure.axes):
        *lines, border = ax.lines
        assert [line.get_label() for line in lines] == ["n = 1", "n = 2", "n = 4"]
        assert [to_hex(line.get_color()).upper() for line in lines] == LINES[:3]
        assert set(border.get_xdata()) == {IN_DOMAIN[scale] + 0.5}
        for number, line in enumerate(lines, start=3 * panel + 1):
            numbers = range(1, 2 * IN_DOMAIN[scale] + 1)
            assert list(line.get_xdata()) == list(numbers)
            assert list(line.get_ydata()) == pytest.approx([100 / m / number for m in numbers])


def test_without_numbers_the_axes_stay_empty(tmp_path: Path) -> None:
    table, _ = made_up("mtp-figs15", "cpu")
    figure = accuracy_by_operations(table, tabulate(table, {}))
    figure.savefig(tmp_path / "empty.png")
    assert all(len(ax.lines) <= 1 for ax in figure.axes)
