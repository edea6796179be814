import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beyond_ce.configuration import build
from beyond_ce.reproduction.plan import plan
from beyond_ce.reproduction.write import write

ROOT = Path(__file__).resolve().parents[2]
TABLES = ["mtp-1", "mtp-fig4", "mtp-s6", "mtp-s11"]


def make_up(table_id, results, origin):
    """Reports with a number for every metric of every run of a table, and the table's files."""
    made = plan(table_id, "cpu", overrides=[f"results_dir={results}"])
    rng = np.random.default_rng(0)
    variants = {row.label: row.variant for row in made.table.rows}
    part = made.table.at("cpu")
    for job in made.configs:
        path = made.folder(job) / "report.json"
        before = json.loads(path.read_text())["metrics"] if path.exists() else {}
        suffix = f"@{variants[job.row]}" if variants[job.row] else ""
        metrics = {
            f"{split}/{column.metric}{suffix}": rng.uniform(0, 0.5)
            for split in part.splits
            for column in part.metrics
        }
        for k in (1, 10, 50) if table_id == "mtp-fig4" else ():
            for end in ("", "@low", "@high"):
                metrics[f"test/pass@{k}@t0.4{end}"] = rng.uniform(0, 0.5)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {**origin, "run": path.parent.name, "metrics": before | metrics}
        path.write_text(json.dumps(content))
    write(made)
    return made


def write_samples(made):
    """What a model might have written for four problems: half of it right."""
    job, config = next(iter(made.configs.items()))
    problems = build(config.dataset, "dataset").problems("test")[:4]
    rows = [
        (problem.id, 0.4, i, text, True, verdict, reason)
        for problem in problems
        for i, (text, verdict, reason) in enumerate(
            [(problem.solutions[0], "passed", ""), ("x <\n", "failed", "SyntaxError")] * 2
        )
    ]
    columns = ["problem", "temperature", "sample", "completion", "finished", "verdict", "reason"]
    folder = made.folder(job) / "evaluation"
    folder.mkdir()
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "test.parquet")


@pytest.mark.slow
def test_complete_results_are_all_drawn(tmp_path, origin, execute):
    made = {table_id: make_up(table_id, tmp_path, origin) for table_id in TABLES}
    write_samples(made["mtp-fig4"])
    shown = execute("code_generation", tmp_path)
    assert shown.drawn == len(TABLES) + 2  # two curves of mtp-fig4, and the temperatures of a run
    assert shown.printed == ""
    assert shown.count("text/html", "2 x passed") == 3
    assert shown.count("text/html", "x &lt;") == 3


def test_what_is_missing_is_a_line_with_its_command(tmp_path, execute):
    shown = execute("code_generation", tmp_path)
    assert shown.drawn == 0
    for table_id in TABLES:
        assert f"make reproduce-table-{table_id} SCALE=cpu" in shown.printed


def test_the_repositorys_own_results_are_drawn(execute):
    shown = execute("code_generation", ROOT / "results")
    tables = [name for name in TABLES if (ROOT / "results/tables/cpu" / f"{name}.csv").exists()]
    assert shown.drawn >= len(tables)
    assert all(f"{name}.csv" not in shown.printed for name in tables)
