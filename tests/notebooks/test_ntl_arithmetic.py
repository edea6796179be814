import json
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from beyond_ce.reporting.tables import Job, load_table, tabulate, write_csv

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "ntl_arithmetic.ipynb"
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


def test_the_notebook_runs_and_draws(results, monkeypatch):
    monkeypatch.setenv("BEYOND_CE_RESULTS", str(results))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert sum("text/html" in output.get("data", {}) for output in outputs) == 2
    assert not [output for output in outputs if output.get("name") == "stderr"]


def test_the_notebook_is_stored_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
