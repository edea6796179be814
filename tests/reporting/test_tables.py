import json
import math

import pandas as pd
import pytest
from scipy import stats

from beyond_ce.errors import RunError, UsageError
from beyond_ce.reporting.tables import (
    CSV_COLUMNS,
    PAPER_DIR,
    Job,
    cells,
    jobs,
    load_table,
    read_reports,
    tabulate,
    write_csv,
)

REAL = sorted((PAPER_DIR.parents[1] / "conf" / "table").glob("*.yaml"))


def test_one_job_per_row_that_runs_and_seed(table):
    todo = jobs(table, "cpu", overrides=["trainer.max_steps=5"])
    assert len(todo) == 2 * 3
    assert todo[4] == Job(
        "NTL λ=0.5",
        1,
        (
            "experiment=toy/sum",
            "scale=cpu",
            "loss=ntl",
            "loss.weight=0.5",
            "trainer.max_steps=5",
        ),
    )
    assert [job.seed for job in jobs(table, "cpu", seeds=[7])] == [7, 7]
    with pytest.raises(UsageError, match=r"no seeds at scale 'paper'.*cpu, gpu"):
        jobs(table, "paper")


def test_numbers_by_hand(table, reports):
    found = cells(tabulate(table, reports))
    ours, paper = found["CE", "test/accuracy"]
    assert (ours.mean, ours.std, ours.n) == (pytest.approx(0.2), pytest.approx(0.1), 3)
    assert paper == 0.3
    difference, paper = found["NTL λ=0.5", "test/accuracy_minus_baseline"]
    expected = stats.ttest_rel([0.32, 0.4, 0.51], [0.1, 0.2, 0.3]).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    assert difference.mean == pytest.approx(0.21)
    assert paper == pytest.approx(0.1)
    assert found["half", "test/accuracy"].ours.mean == pytest.approx(0.105)
    share, paper = found["half", "test/accuracy_share"]
    assert share.mean == pytest.approx(0.5)
    assert paper == pytest.approx(0.5)
    # The gap in MAE, -1, -0.5, -2, may be zero: a share of it says nothing.
    assert math.isnan(found["half", "test/mae_share"].ours.mean)


def test_what_does_not_exist_is_empty_and_never_zero(table, reports, tmp_path):
    some = {("CE", 0): reports["CE", 0]}
    write_csv(tabulate(table, some), tmp_path / "made" / "toy.csv")
    lines = (tmp_path / "made" / "toy.csv").read_text().splitlines()
    assert lines[0] == "row,metric,mean,std,ci_low,ci_high,n_seeds,paper" == ",".join(CSV_COLUMNS)
    assert lines[1] == "CE,test/accuracy,0.1,,,,1,0.3"
    assert "CE,test/invalid,0,,,,1," in lines
    assert "NTL λ=0.5,test/accuracy,,,,,,0.4" in lines
    assert "xVal,test/accuracy,,,,,,0.1" in lines
    assert "xVal,test/mae,,,,,," in lines
    assert "NTL λ=0.5,test/accuracy_minus_baseline,,,,,,0.1" in lines
    # Rows x metrics, differences of one row, two contrasts, one of them with its share.
    assert len(lines) == 1 + 3 * 3 + 3 + 3 + 2 * 3
    assert not any(line.startswith("xVal") and "baseline" in line for line in lines)


def test_a_metric_that_a_run_lacks_costs_that_seed_alone(table, reports):
    reports["CE", 1]["metrics"]["test/mae"] = None
    del reports["CE", 2]["metrics"]["test/mae"]
    found = cells(tabulate(table, reports))
    assert found["CE", "test/mae"].ours.n == 1
    assert found["CE", "test/accuracy"].ours.n == 3
    assert found["NTL λ=0.5", "test/mae_minus_baseline"].ours.n == 1


def test_reports_are_found_by_run_and_shared_between_rows(table, tmp_path):
    todo = jobs(table, "cpu", seeds=[0])
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "report.json").write_text(json.dumps({"metrics": {}}))
    found = read_reports(todo, lambda job: tmp_path / "one")
    assert set(found) == {("CE", 0), ("NTL λ=0.5", 0)}
    assert read_reports(todo, lambda job: tmp_path / job.row) == {}
    (tmp_path / "one" / "report.json").write_text('{"metrics"')
    with pytest.raises(RunError, match="damaged"):
        read_reports(todo, lambda job: tmp_path / "one")


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_every_table_finds_the_papers_numbers(path):
    table = load_table(path)
    assert set(table.notes) == set(table.seeds) == {"smoke", "cpu", "gpu", "paper"}
    assert len(table.seeds["cpu"]) >= 3
    frame = tabulate(table, {})
    paper = frame.set_index(["row", "metric"])["paper"]
    for row in table.rows:
        assert row.paper
        reported = [paper[row.label, f"interpolate/{column.metric}"] for column in table.columns]
        assert not math.isnan(reported[0])
    assert frame["mean"].isna().all()


def test_table_2_has_all_rows_and_numbers_of_the_paper():
    paper = pd.read_csv(PAPER_DIR / "ntl" / "table2.csv")
    table = load_table(next(path for path in REAL if path.stem == "ntl-2"))
    frame = tabulate(table, {}).set_index(["row", "metric"])["paper"]
    assert len(table.rows) == 11
    for row in table.rows:
        for split in table.splits:
            weight = row.paper.get("lambda")
            same = paper["lambda"].isna() if weight is None else paper["lambda"] == weight
            line = paper[(paper["loss"] == row.paper["loss"]) & same & (paper["split"] == split)]
            assert frame[row.label, f"{split}/mae"] == line["MAE"].item()
            assert frame[row.label, f"{split}/accuracy"] == line["accuracy"].item()
            assert frame[row.label, f"{split}/r2"] == line["R2"].item()


def test_the_parts_of_the_tokenizer_gap_add_up():
    table = load_table(next(path for path in REAL if path.stem == "ntl-6"))
    gap, tokenizer, loss, _ = (contrast.weights for contrast in table.contrasts)
    total = {row: tokenizer[row] + loss[row] for row in tokenizer}
    assert {row: weight for row, weight in total.items() if weight} == gap
    paper = cells(tabulate(table, {}))
    share = paper[table.contrasts[1].label, "interpolate/accuracy_share"].paper
    assert share == pytest.approx(((0.64 - 0.43) + (0.75 - 0.51)) / 2 / (0.75 - 0.43))


GOOD = """\
id: bad
title: T
source: S
paper: ntl/table2.csv
experiment: ntl/arithmetic
seeds: {cpu: [0]}
splits: [interpolate]
columns: [{metric: accuracy, name: Accuracy}]
rows: [{label: CE, overrides: [loss=ce]}]
notes: {cpu: a note}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("overrides: [loss=ce]", "paper: {loss: CE}", "no rows to run"),
        ("rows: [{label: CE, overrides: [loss=ce]}]", "rows: []", "no rows to run"),
        ("title: T", "titel: T", "titel"),
        ("seeds: {cpu: [0]}", "seeds: {cpu: [zero]}", "zero"),
        ("title: T", "title: T\nbaseline: NTL", r"unknown rows \['NTL'\]"),
        ("table2.csv", "table99.csv", "table99.csv"),
        ("id: bad", "id: other", "not the file's name"),
        ("overrides: [loss=ce]}", "overrides: []}, {label: CE, overrides: []}", "one label"),
        (
            "title: T",
            "title: T\ncontrasts: [{label: a, weights: {CE: 1}, share_of: b}]",
            "names no contrast",
        ),
        ("rows: [", "rows: [[", "bad.yaml"),
    ],
)
def test_a_broken_definition_is_one_line(tmp_path, old, new, message):
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD)
    load_table(path)
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UsageError, match=message) as error:
        load_table(path)
    assert "\n" not in str(error.value)


def test_an_unknown_table_names_the_known_ones(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    with pytest.raises(UsageError, match="no table 'b'; known: a"):
        load_table(tmp_path / "b.yaml")
