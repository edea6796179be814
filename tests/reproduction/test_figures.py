"""The committed figures are those of the committed results, and drawing again changes nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from beyond_ce.errors import UsageError
from beyond_ce.reproduction.figures import write_figures

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
COMMITTED = RESULTS / "figures" / "cpu"

plt.switch_backend("agg")


def test_the_committed_figures_are_up_to_date_and_small(tmp_path: Path) -> None:
    drawn = write_figures(RESULTS, "cpu", tmp_path)
    assert {path.name for path in drawn} == {path.name for path in COMMITTED.iterdir()}
    for path in drawn:
        ours, committed = plt.imread(path), plt.imread(COMMITTED / path.name)
        assert ours.shape == committed.shape, f"{path.name}: run `make figures`"
        # Another version of matplotlib may smooth an edge differently.
        differs = np.abs(ours - committed).max(axis=-1) > 0.1
        assert differs.mean() < 0.002, f"{path.name}: run `make figures`"
        content = path.read_bytes()
        assert len(content) < 200_000
        assert b"tEXt" not in content and b"tIME" not in content, "a time or a version"


def test_drawing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    # Claims without reports compose nothing, so that this takes no time.
    tables = tmp_path / "tables" / "cpu"
    tables.mkdir(parents=True)
    shutil.copy(RESULTS / "tables" / "cpu" / "mtp-decoding.csv", tables)
    first = [path.read_bytes() for path in write_figures(tmp_path, "cpu")]
    again = [path.read_bytes() for path in write_figures(tmp_path, "cpu")]
    assert first == again


def test_a_scale_without_tables_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no table to draw"):
        write_figures(tmp_path, "gpu")
    with pytest.raises(UsageError, match="choose one of cpu, gpu, paper"):
        write_figures(tmp_path, "smoke")


def test_the_script_says_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "scripts/make_figures.py", "--results", tmp_path]
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert outcome.returncode == 2
    assert len(outcome.stderr.strip().splitlines()) == 1
