import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beyond_ce.reproduction.plan import plan
from beyond_ce.reproduction.write import write

ROOT = Path(__file__).resolve().parents[2]
TABLES = ["mtp-s2", "mtp-figs10", "mtp-cost", "mtp-decoding", "mtp-s3", "mtp-s5", "mtp-s4"]


def make_up(table_id, results, origin):
    """Reports with a number for every metric of every run of a table, and the table's files."""
    made = plan(table_id, "cpu", overrides=[f"results_dir={results}"])
    rng = np.random.default_rng(0)
    variants = {row.label: row.variant for row in made.table.rows}
    for job in made.configs:
        folder = made.folder(job)
        part = next(
            p for p in made.table.parts if f"experiment={p.experiment}/cpu" in job.overrides
        )
        names = [f"{split}/{column.metric}" for split in part.splits for column in part.metrics]
        suffix = f"@{variants[job.row]}" if variants[job.row] else ""
        path = folder / "report.json"
        before = json.loads(path.read_text())["metrics"] if path.exists() else {}
        metrics = before | {name + suffix: rng.uniform(1, 4) for name in names}
        (folder / "evaluation").mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**origin, "run": folder.name, "metrics": metrics}))
        if table_id == "mtp-s2":
            pieces = pd.DataFrame(
                {"prompt": ["x = "], "pieces": [["(1", ",", " 2)\n"]], "sizes": [[2, 1, 4]]}
            )
            pieces.to_parquet(folder / "evaluation" / f"{part.splits[0]}.parquet")
    write(made)


@pytest.mark.slow
def test_complete_results_are_all_drawn(tmp_path, origin, execute):
    for table_id in TABLES:
        make_up(table_id, tmp_path, origin)
    shown = execute("mtp_decoding", tmp_path)
    assert shown.drawn == len(TABLES) + 1  # the heads one by one, too
    assert shown.printed == ""
    assert shown.count("text/html", "<pre>") == 4


def test_what_is_missing_is_a_line_with_its_command(tmp_path, execute):
    shown = execute("mtp_decoding", tmp_path)
    assert shown.drawn == 0
    for table_id in TABLES:
        assert f"make reproduce-table-{table_id} SCALE=cpu" in shown.printed


def test_the_repositorys_own_results_are_drawn(execute):
    shown = execute("mtp_decoding", ROOT / "results")
    tables = [name for name in TABLES if (ROOT / "results/tables/cpu" / f"{name}.csv").exists()]
    assert shown.drawn >= len(tables)
    assert all(f"{name}.csv" not in shown.printed for name in tables)
