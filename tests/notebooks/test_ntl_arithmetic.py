from pathlib import Path

import numpy as np
import pytest

from beyond_ce.reporting.numbers import tabulate, write_csv
from beyond_ce.reporting.tables import Job, load_table

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "results" / "tables" / "cpu" / "ntl-2.csv"


@pytest.fixture
def results(tmp_path):
    """The committed results, or made-up ones where there is no table yet."""
    if COMMITTED.exists():
        return ROOT / "results"
    table = load_table(ROOT / "conf" / "table" / "ntl-2.yaml")
    rng = np.random.default_rng(0)
    metrics = [f"{split}/{column.metric}" for split in table.splits for column in table.metrics]
    reports = {
        Job(row.label, seed, ()): {"metrics": {name: rng.uniform() for name in metrics}}
        for row in table.rows
        for seed in range(3)
    }
    write_csv(tabulate(table, reports), tmp_path / "tables" / "cpu" / "ntl-2.csv")
    return tmp_path


def test_the_notebook_runs_and_draws(results, execute):
    shown = execute("ntl_arithmetic", results)
    assert shown.drawn == 2
    assert shown.count("text/html") == 2
