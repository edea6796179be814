"""Running a notebook on results, and what a made-up report needs beside its metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

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
