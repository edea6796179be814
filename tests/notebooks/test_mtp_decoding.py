from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
DECODING = ["mtp-s2", "mtp-figs10", "mtp-cost", "mtp-decoding", "mtp-real", "mtp-s3"]
TABLES = [*DECODING, "mtp-s5", "mtp-s4"]


def write_pieces(made):
    """What decoding with several heads might have written, for the first split of each run."""
    for job in made.configs:
        (part,) = (p for p in made.table.parts if f"experiment={p.experiment}/cpu" in job.overrides)
        pieces = pd.DataFrame(
            {"prompt": ["x = "], "pieces": [["(1", ",", " 2)\n"]], "sizes": [[2, 1, 4]]}
        )
        folder = made.folder(job) / "evaluation"
        folder.mkdir(exist_ok=True)
        pieces.to_parquet(folder / f"{part.splits[0]}.parquet")


@pytest.mark.slow
def test_complete_results_are_all_drawn(tmp_path, make_up, execute):
    for table_id in TABLES:
        made = make_up(table_id, tmp_path)
        if table_id == "mtp-s2":
            write_pieces(made)
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
