"""The benchmark at tiny shapes: it runs, and its last line of output is one JSON object."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


@pytest.mark.slow
def test_prints_one_json_object():
    command = [sys.executable, SCRIPT, "ntl_loss", "--small", "--repeats", "1", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert {"logits", "hidden", "t5", "hardware", "versions", "threads"} <= figures.keys()
    assert figures["logits"]["2x8x512"]["ratio"]["ce_torch"] == 1.0
    assert "ntl_was" in figures["logits"]["64x10x512"]["ratio"]
    assert "from_hidden" in figures["hidden"]["64x10x64x512"]["ms"]


def test_unknown_target_is_one_line():
    done = subprocess.run([sys.executable, SCRIPT, "speed"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no benchmark 'speed': choose one of ")
    assert "ntl_loss" in done.stderr
    assert len(done.stderr.splitlines()) == 1
