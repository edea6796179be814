from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLES = ["mtp-fig5", "mtp-figs12", "mtp-fig6", "mtp-s8", "mtp-figs13"]


@pytest.mark.slow
def test_complete_results_are_all_drawn(tmp_path, make_up, execute):
    for table_id in TABLES:
        made = make_up(table_id, tmp_path)
        if table_id == "mtp-s8":
            folder = made.folder(next(iter(made.configs))) / "evaluation"
            folder.mkdir()
            rows = [
                {"prompt": "text", "answer": f"it says {i}", "prediction": "x"} for i in range(4)
            ]
            pd.DataFrame(rows).to_parquet(folder / "test.parquet")
    shown = execute("natural_language", tmp_path)
    assert shown.drawn == len(TABLES) - 1  # mtp-s8 is shown as a table
    assert shown.count("text/html", "the first sentence") == 1
    assert "guessing gets" in shown.printed
    assert shown.printed.count("reference: it says") == 3


def test_what_is_missing_is_a_line_with_its_command(tmp_path, execute):
    shown = execute("natural_language", tmp_path)
    assert shown.drawn == 0
    for table_id in TABLES:
        assert f"make reproduce-table-{table_id} SCALE=cpu" in shown.printed


def test_the_repositorys_own_results_are_drawn(execute):
    shown = execute("natural_language", ROOT / "results")
    drawn = [name for name in TABLES if name != "mtp-s8"]
    tables = [name for name in drawn if (ROOT / "results/tables/cpu" / f"{name}.csv").exists()]
    assert shown.drawn == len(tables)
