import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beyond_ce.configuration import CONF_DIR
from beyond_ce.reporting.numbers import TableNumbers
from beyond_ce.reproduction.plan import plan
from beyond_ce.reproduction.write import write

ROOT = Path(__file__).resolve().parents[2]
TABLES = sorted(path.stem for path in (CONF_DIR / "table").glob("ntl-*.yaml"))
TASKS = {
    "ntl-1": {
        "interpolate": ["algebra__linear_1d", "arithmetic__mul", "numbers__round_number"],
        "extrapolate": ["arithmetic__mul_big", "numbers__round_number_big"],
    },
    "ntl-5": {"interpolate": ["1x1", "1x2", "2x1", "2x2"], "extrapolate": ["1x3", "3x3"]},
    "ntl-efficiency": {"probe": ["1x1", "2x2", "3x3"]},
}


def make_up(table_id, results, origin):
    """Every run of a table with numbers near the paper's, and the table's files."""
    made = plan(table_id, "cpu", overrides=[f"results_dir={results}"])
    rng = np.random.default_rng(0)
    numbers = TableNumbers(made.table, {})
    for job in made.configs:
        part = next(
            p for p in made.table.parts if f"experiment={p.experiment}/cpu" in job.overrides
        )
        metrics = {}
        for metric, (split, _) in numbers.metrics.items():
            if split not in part.splits:
                continue
            _, paper = numbers.combine({job.row: 1.0}, metric)
            metrics[metric] = rng.normal(paper if np.isfinite(paper) else 0.5, 0.05)
        for split, tasks in TASKS.get(table_id, {}).items():
            for name in (f"{metric}@{task}" for metric in made.table.breakdown for task in tasks):
                metrics[f"{split}/{name}"] = rng.uniform(0.1, 2)
        if table_id == "ntl-5":
            mass = np.exp(-np.arange(10) * rng.uniform(0.3, 0.6))
            metrics |= {f"interpolate/mass_at_{i}": m / mass.sum() for i, m in enumerate(mass)}
        made.folder(job).mkdir(parents=True, exist_ok=True)
        report = made.folder(job) / "report.json"
        before = json.loads(report.read_text())["metrics"] if report.exists() else {}
        whole = {**origin, "run": made.folder(job).name}
        report.write_text(json.dumps({**whole, "metrics": before | metrics}))
    if table_id == "ntl-5":
        for job in [job for job in made.configs if job.row.startswith("Decoder")]:
            if job.seed == 0:
                true = rng.integers(100, 1000, 500) * rng.integers(100, 1000, 500)
                frame = pd.DataFrame(
                    {"target_number": true, "predicted_number": true * rng.lognormal(0, 0.1, 500)}
                )
                path = made.folder(job) / "evaluation" / "interpolate.parquet"
                path.parent.mkdir()
                frame.to_parquet(path)
    write(made)


@pytest.mark.slow
def test_complete_results_are_all_drawn(tmp_path, origin, execute):
    for table_id in TABLES:
        make_up(table_id, tmp_path, origin)
    shown = execute("ntl_results", tmp_path)
    # A figure per table, five more of tasks, answers and probabilities, and the claims.
    assert shown.drawn == len(TABLES) + 5 + 1
    assert shown.printed == ""


def test_what_is_missing_is_a_line_with_its_command(tmp_path, execute):
    shown = execute("ntl_results", tmp_path)
    assert shown.drawn == 1  # the claims, none of them run
    for table_id in TABLES:
        assert f"make reproduce-table-{table_id} SCALE=cpu" in shown.printed


def test_the_repositorys_own_results_are_drawn(execute):
    shown = execute("ntl_results", ROOT / "results")
    tables = [name for name in TABLES if (ROOT / "results/tables/cpu" / f"{name}.csv").exists()]
    assert shown.drawn >= 1 + len(tables)
    assert all(f"{name}.csv" not in shown.printed for name in tables)
