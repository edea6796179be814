from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
DRAWN = ["mtp-fig7", "mtp-figs14", "mtp-fig8", "mtp-figs15", "mtp-figs16", "mtp-fig9"]
DRAWN += ["mtp-fig9-code", "mtp-section5", "mtp-section5-code", "mtp-orders"]
TABLES = [*DRAWN, "mtp-figs17"]


def write_places(made):
    """What the evaluator might have kept of ten places."""
    folder = made.folder(next(iter(made.configs))) / "evaluation"
    folder.mkdir()
    names = ("information", "information_bound", "text_information")
    values = dict.fromkeys(names, range(10))
    table = pd.DataFrame({"before": "for i ", "x": "i", "y": "n", **values})
    table.to_parquet(folder / "code.parquet")


@pytest.mark.slow
def test_complete_results_are_all_drawn(tmp_path, make_up, execute):
    for table_id in TABLES:
        made = make_up(table_id, tmp_path)
        if table_id == "mtp-section5-code":
            write_places(made)
    shown = execute("why_it_works", tmp_path)
    assert shown.drawn == len(DRAWN) + 1  # mtp-section5 twice
    assert shown.printed == ""
    assert shown.count("text/html", "Inconsequential") == 1
    assert shown.count("text/html", "text_information") == 2


def test_what_is_missing_is_a_line_with_its_command(tmp_path, execute):
    shown = execute("why_it_works", tmp_path)
    assert shown.drawn == 0
    for table_id in TABLES:
        assert f"make reproduce-table-{table_id} SCALE=cpu" in shown.printed


def test_the_repositorys_own_results_are_drawn(execute):
    shown = execute("why_it_works", ROOT / "results")
    tables = [name for name in TABLES if (ROOT / "results/tables/cpu" / f"{name}.csv").exists()]
    assert shown.drawn >= len(set(tables) & set(DRAWN))
    assert all(f"{name}.csv" not in shown.printed for name in tables)
