from pathlib import Path

import pandas as pd
import pytest

from beyond_ce.configuration import build

ROOT = Path(__file__).resolve().parents[2]
TABLES = ["mtp-1", "mtp-copying", "mtp-s7", "mtp-fig4", "mtp-s6", "mtp-s4", "mtp-s11"]
BY_TEMPERATURE = [f"test/pass@{k}@t0.4{end}" for k in (1, 10, 50) for end in ("", "@low", "@high")]


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
def test_complete_results_are_all_drawn(tmp_path, make_up, execute):
    for table_id in TABLES:
        made = make_up(table_id, tmp_path, BY_TEMPERATURE if table_id == "mtp-fig4" else ())
        if table_id == "mtp-fig4":
            write_samples(made)
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
