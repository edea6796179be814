import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

from beyond_ce.reproduction import plan, write

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "mtp_decoding.ipynb"
TABLES = ["mtp-s2", "mtp-figs10", "mtp-s3", "mtp-s5", "mtp-s4"]
REPORT = {
    "commit": None,
    "dirty": False,
    "hardware": {"cpu": "a CPU", "cores": 1},
    "parameters": 1,
    "steps": 1,
    "samples": 1,
    "wall_clock_s": 1.0,
}


def make_up(table_id, results):
    """Reports with a number for every metric of every run of a table, and the table's files."""
    made = plan(table_id, "cpu", overrides=[f"results_dir={results}"])
    rng = np.random.default_rng(0)
    variants = {row.label: row.variant for row in made.table.rows}
    for job in made.configs:
        folder = made.folder(job)
        part = next(p for p in made.table.parts if f"experiment={p.experiment}" in job.overrides)
        names = [f"{split}/{column.metric}" for split in part.splits for column in part.metrics]
        suffix = f"@{variants[job.row]}" if variants[job.row] else ""
        path = folder / "report.json"
        before = json.loads(path.read_text())["metrics"] if path.exists() else {}
        metrics = before | {name + suffix: rng.uniform(1, 4) for name in names}
        (folder / "evaluation").mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**REPORT, "run": folder.name, "metrics": metrics}))
        if table_id == "mtp-s2":
            pieces = pd.DataFrame(
                {"prompt": ["x = "], "pieces": [["(1", ",", " 2)\n"]], "sizes": [[2, 1, 4]]}
            )
            pieces.to_parquet(folder / "evaluation" / f"{part.splits[0]}.parquet")
    write(made)


def executed(results, monkeypatch):
    monkeypatch.setenv("BEYOND_CE_RESULTS", str(results))
    monkeypatch.setenv("BEYOND_CE_SCALE", "cpu")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    drawn = sum("image/png" in output.get("data", {}) for output in outputs)
    printed = "".join(output.get("text", "") for output in outputs)
    colored = sum("<pre>" in str(output.get("data", {}).get("text/html")) for output in outputs)
    return drawn, printed, colored


@pytest.mark.slow
def test_complete_results_are_all_drawn(tmp_path, monkeypatch):
    for table_id in TABLES:
        make_up(table_id, tmp_path)
    drawn, printed, colored = executed(tmp_path, monkeypatch)
    assert drawn == len(TABLES) + 1  # the heads one by one, too
    assert printed == ""
    assert colored == 4


def test_what_is_missing_is_a_line_with_its_command(tmp_path, monkeypatch):
    drawn, printed, _ = executed(tmp_path, monkeypatch)
    assert drawn == 0
    for table_id in TABLES:
        assert f"make reproduce-table-{table_id} SCALE=cpu" in printed


def test_the_repositorys_own_results_are_drawn(monkeypatch):
    drawn, printed, _ = executed(ROOT / "results", monkeypatch)
    tables = [name for name in TABLES if (ROOT / "results/tables/cpu" / f"{name}.csv").exists()]
    assert drawn >= len(tables)
    assert all(f"{name}.csv" not in printed for name in tables)


def test_the_notebook_is_stored_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
