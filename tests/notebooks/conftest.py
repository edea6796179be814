"""Running a notebook on results, and what a made-up report needs beside its metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from beyond_ce.reproduction.plan import Plan, plan
from beyond_ce.reproduction.write import write

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.fixture
def origin() -> dict[str, Any]:
    """Everything of a report but its run's name and its metrics."""
    return {
        "commit": None,
        "dirty": False,
        "hardware": {"cpu": "a CPU", "cores": 1},
        "parameters": 1,
        "steps": 1,
        "samples": 1,
        "wall_clock_s": 1.0,
    }


@pytest.fixture
def make_up(origin: dict[str, Any]) -> Callable[..., Plan]:
    """`make_up(table_id, results)` writes a report with a number for every metric of every run of a
    table at scale cpu, and the table's files; further metrics: `make_up(table_id, results, more)`.
    """

    def make(table_id: str, results: Path, more: Sequence[str] = ()) -> Plan:
        made = plan(table_id, "cpu", overrides=[f"results_dir={results}"])
        rng = np.random.default_rng(0)
        variants = {row.label: row.variant for row in made.table.rows}
        for job in made.configs:
            ours = [f"experiment={p.experiment}/cpu" in job.overrides for p in made.table.parts]
            part = made.table.parts[ours.index(True)]
            suffix = f"@{variants[job.row]}" if variants[job.row] else ""
            names = [f"{s}/{c.metric}{suffix}" for s in part.splits for c in part.metrics]
            path = made.folder(job) / "report.json"
            before = json.loads(path.read_text())["metrics"] if path.exists() else {}
            metrics = before | {name: rng.uniform(0.1, 0.4) for name in [*names, *more]}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({**origin, "run": path.parent.name, "metrics": metrics}))
        write(made)
        return made

    return make


class Outputs:
    """What the cells of an executed notebook show; nothing of it on stderr."""

    def __init__(self, notebook: nbformat.NotebookNode) -> None:
        self.all = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert not [output for output in self.all if output.get("name") == "stderr"]

    def count(self, kind: str, containing: str = "") -> int:
        """How many outputs there are of a MIME type."""
        found = [output.get("data", {}).get(kind) for output in self.all]
        return sum(each is not None and containing in str(each) for each in found)

    @property
    def drawn(self) -> int:
        return self.count("image/png")

    @property
    def printed(self) -> str:
        return "".join(output.get("text", "") for output in self.all)


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], Outputs]:
    """`execute(name, results)` runs notebooks/<name>.ipynb on a folder of results."""

    def run(name: str, results: Path) -> Outputs:
        monkeypatch.setenv("BEYOND_CE_RESULTS", str(results))
        monkeypatch.setenv("BEYOND_CE_SCALE", "cpu")
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        where = {"metadata": {"path": str(NOTEBOOKS)}}
        NotebookClient(notebook, timeout=120, resources=where).execute()
        return Outputs(notebook)

    return run
