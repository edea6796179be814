"""A plan of no size, and a stand-in for an experiment that other processes can import."""

import os
import sys

import pytest
from omegaconf import OmegaConf

from beyond_ce.configuration import CONF_DIR
from beyond_ce.reporting.tables import Job, load_table
from beyond_ce.reproduction.plan import Plan

# What the workers import in the place of an experiment.
STAND_IN = """
import json
from beyond_ce.runs.identity import run_folder

def run(config):
    folder = run_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.parents[1] / "calls", "a") as calls:
        trainer = config.trainer
        calls.write(f"{config.loss} {config.seed} {trainer.progress} {trainer.num_threads}\\n")
    if config.loss == "broken":
        raise RuntimeError("first line\\nsecond line")
    report = {
        "run": folder.name,
        "metrics": {"interpolate/accuracy": 0.5 + config.seed / 10}, "commit": "c0ffee",
        "dirty": False, "hardware": {"cpu": "A CPU", "cores": 2, "gpu": None},
        "parameters": 1, "steps": 2, "samples": 3, "wall_clock_s": 6.0,
    }
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "DONE").touch()
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The stand-in's `run`, importable in other processes."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delitem(sys.modules, "stand_in", raising=False)
    import stand_in

    return stand_in.run


@pytest.fixture
def make_plan(tmp_path):
    def make(*losses, seeds=(0,)):
        configs = {
            Job(f"{loss} {i}", seed, ()): OmegaConf.create(
                {
                    "results_dir": str(tmp_path / "results"),
                    "dataset": {"name": "sums"},
                    "tokenizer": {"name": "digit"},
                    "trainer": {
                        **{"progress": True, "num_threads": 1, "accelerator": "cpu", "devices": 1}
                    },
                    "loss": loss,
                    "seed": seed,
                }
            )
            for i, loss in enumerate(losses)
            for seed in seeds
        }
        table = load_table(CONF_DIR / "table" / "ntl-2.yaml")
        return Plan(table, "cpu", configs, "make reproduce-table-ntl-2 SCALE=cpu")

    return make


@pytest.fixture
def calls(tmp_path):
    path = tmp_path / "results" / "calls"
    return lambda: [line.split() for line in path.read_text().splitlines()]
