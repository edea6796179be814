import json
import math

import pandas as pd
import pytest
from scipy import stats

from beyond_ce.configuration import compose, experiments
from beyond_ce.errors import RunError, UsageError
from beyond_ce.reporting.numbers import CSV_COLUMNS, cells, tabulate, write_csv
from beyond_ce.reporting.tables import (
    PAPER_DIR,
    Column,
    Job,
    Part,
    Row,
    jobs,
    load_table,
    read_reports,
)

# Read from the recipes: nothing in them varies.
READINGS = {"mtp-s13", "mtp-s14"}
# An hour a seed, and about one model's speed; a simulation without chance.
ONE_SEED = {"mtp-decoding", "mtp-figs17"}
REAL = sorted((PAPER_DIR.parents[1] / "conf" / "table").glob("*.yaml"))


def test_one_job_per_row_that_runs_and_seed(table):
    todo = jobs(table, "cpu", overrides=["trainer.max_steps=5"])
    assert len(todo) == 2 * 3
    assert todo[4] == Job(
        "NTL λ=0.5",
        1,
        (
            "experiment=toy/sum/cpu",
            "loss=ntl",
            "loss.weight=0.5",
            "trainer.max_steps=5",
        ),
    )
    assert [job.seed for job in jobs(table, "cpu", seeds=[7])] == [7, 7]
    with pytest.raises(UsageError, match=r"no seeds at scale 'paper'.*cpu, gpu"):
        jobs(table, "paper")


def test_a_row_may_run_at_some_scales_only(table):
    table.rows[1].scales = ["gpu"]
    assert {job.row for job in jobs(table, "cpu")} == {"CE"}
    assert {job.row for job in jobs(table, "gpu")} == {"CE", "NTL λ=0.5"}


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
    some = {Job("CE", 0, ()): reports[Job("CE", 0, ())]}
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
    reports[Job("CE", 1, ())]["metrics"]["test/mae"] = None
    del reports[Job("CE", 2, ())]["metrics"]["test/mae"]
    found = cells(tabulate(table, reports))
    assert found["CE", "test/mae"].ours.n == 1
    assert found["CE", "test/accuracy"].ours.n == 3
    assert found["NTL λ=0.5", "test/mae_minus_baseline"].ours.n == 1


def test_rows_that_are_one_run_read_their_own_variant_of_a_metric(table, reports):
    table.rows = [Row("k=1", ["head=4"]), Row("k=2", ["head=4"], variant="k2")]
    table.baseline, table.contrasts = None, []
    shared = {"test/mae": 1.5, "test/accuracy": 0.2, "test/accuracy@k2": 0.4, "test/mae@k22": 9.0}
    both = {
        Job(row, seed, ()): {**reports[Job("CE", seed, ())], "metrics": shared}
        for row in ("k=1", "k=2")
        for seed in (0, 1)
    }
    found = cells(tabulate(table, both))
    assert found["k=1", "test/accuracy"].ours.mean == 0.2
    assert found["k=2", "test/accuracy"].ours.mean == 0.4
    assert found["k=1", "test/mae"].ours.mean == found["k=2", "test/mae"].ours.mean == 1.5


def test_a_row_is_without_a_metric_of_its_run_that_says_nothing_about_it(table, reports):
    table.rows[0].without = ["mae"]
    found = cells(tabulate(table, reports))
    assert found["CE", "test/mae"].ours.n == 0
    assert found["CE", "test/accuracy"].ours.n == 3
    assert found["NTL λ=0.5", "test/mae"].ours.n == 3


def test_a_column_may_multiply_what_the_reports_have(table, reports):
    plain = cells(tabulate(table, reports))
    table.columns[0].times = 100
    found = cells(tabulate(table, reports))
    for row in ("CE", "NTL λ=0.5", "gap"):
        ours, before = found[row, "test/accuracy"].ours, plain[row, "test/accuracy"].ours
        assert (ours.mean, ours.std) == pytest.approx((100 * before.mean, 100 * before.std))
        assert ours.low == pytest.approx(100 * before.low)
        assert found[row, "test/accuracy"].paper == plain[row, "test/accuracy"].paper
    assert found["CE", "test/mae"].ours == plain["CE", "test/mae"].ours


def test_reports_are_found_by_run_and_shared_between_rows(table, tmp_path):
    todo = jobs(table, "cpu", seeds=[0])
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "report.json").write_text(json.dumps({"run": "one", "metrics": {}}))
    found = read_reports(todo, lambda job: tmp_path / "one")
    assert set(found) == set(todo)
    assert read_reports(todo, lambda job: tmp_path / job.row) == {}
    (tmp_path / "one" / "report.json").write_text('{"metrics"')
    with pytest.raises(RunError, match="damaged"):
        read_reports(todo, lambda job: tmp_path / "one")


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_every_table_finds_the_papers_numbers(path):
    table = load_table(path)
    for part in table.parts:
        scales = set(experiments()[part.experiment])
        assert set(part.only) <= scales if part.only else set(table.seeds) == scales
    assert all(map(table.differs, table.seeds))
    assert len(table.seeds["cpu"]) >= 3 or table.id in READINGS | ONE_SEED
    frame = tabulate(table, {})
    paper = frame.set_index(["row", "metric"])["paper"]
    with_key = [row for row in table.rows if row.paper]
    assert bool(with_key) == (table.paper is not None)
    for row in with_key:
        reported = [
            paper[row.label, f"{table.splits[0]}/{column.metric}"]
            for column in table.columns
            if column.paper
        ]
        assert not math.isnan(reported[0]) or (not all(map(math.isnan, reported)) and row.scales)
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
            assert frame[row.label, f"{split}/capped_mae"] == line["MAE"].item()
            assert frame[row.label, f"{split}/accuracy"] == line["accuracy"].item()
            assert frame[row.label, f"{split}/capped_r2"] == line["R2"].item()


def test_the_parts_of_the_tokenizer_gap_add_up():
    table = load_table(next(path for path in REAL if path.stem == "ntl-6"))
    gap, tokenizer, loss, _ = (contrast.weights for contrast in table.contrasts)
    total = {row: tokenizer[row] + loss[row] for row in tokenizer}
    assert {row: weight for row, weight in total.items() if weight} == gap
    paper = cells(tabulate(table, {}))
    share = paper[table.contrasts[1].label, "interpolate/accuracy_share"].paper
    assert share == pytest.approx(((0.64 - 0.43) + (0.75 - 0.51)) / 2 / (0.75 - 0.43))


@pytest.fixture
def two_experiments(table):
    """The toy table with a second experiment, where NTL has another weight."""
    table.also = [
        Part(
            experiment="toy/jokes",
            name="Jokes",
            splits=["dev"],
            columns=[Column("rmse", "RMSE", ".1f", "lower", "RMSE")],
        )
    ]
    table.rows[1].overrides_for = {
        "toy/jokes": ["loss.weight=2"],
        "toy/jokes/cpu": ["b=3"],
        "toy/jokes/gpu": ["b=4"],
    }
    return table


def jokes(rmse):
    return {"metrics": {"dev/rmse": rmse, "dev/accuracy": 0.0}}


def test_a_job_per_row_experiment_and_seed(two_experiments):
    todo = jobs(two_experiments, "cpu", overrides=["a=1"])
    assert len(todo) == len(set(todo)) == 2 * 2 * 3
    assert todo[3].overrides[0] == "experiment=toy/sum/cpu"
    assert todo[3].overrides[-2:] == ("loss.weight=0.5", "a=1")
    assert todo[9].overrides == (
        "experiment=toy/jokes/cpu",
        "loss=ntl",
        "loss.weight=0.5",
        "loss.weight=2",
        "b=3",
        "a=1",
    )


def test_metrics_of_several_experiments_stand_in_one_table(two_experiments, reports):
    reports[Job("CE", 1, ("experiment=toy/jokes/cpu",))] = jokes(2.5)
    found = cells(tabulate(two_experiments, reports))
    assert found["CE", "dev/rmse"].ours.mean == 2.5
    assert found["CE", "dev/rmse"].ours.n == 1
    assert found["CE", "test/accuracy"].ours.n == 3
    assert math.isnan(found["NTL λ=0.5", "dev/rmse"].ours.mean)
    assert found["NTL λ=0.5", "dev/rmse_minus_baseline"].ours.n == 0
    assert ("CE", "dev/accuracy") not in found


def test_two_experiments_that_report_one_metric_are_refused(two_experiments, reports):
    reports[Job("CE", 1, ("experiment=toy/jokes/cpu",))] = {"metrics": {"test/mae": 1.0}}
    with pytest.raises(UsageError, match="CE: two experiments of one table report test/mae"):
        tabulate(two_experiments, reports)


def test_the_tokenizer_table_takes_the_papers_weight_on_each_experiment():
    table = load_table(next(path for path in REAL if path.stem == "ntl-6"))
    configs = {
        (job.overrides[0].split("/")[1], compose(job.overrides).loss.weight)
        for job in jobs(table, "cpu", seeds=[0])
        if job.row == "NTL-WAS, digit"
    }
    assert configs == {("arithmetic", 0.3), ("rjokes", 2.0)}


def test_a_row_may_have_another_model_at_each_scale(two_experiments):
    ntl = two_experiments.rows[1]
    ntl.overrides_at = {"cpu": ["model=small", "loss.weight=1"], "gpu": ["model=large"]}
    cpu, gpu = (
        [job.overrides[1:] for job in jobs(two_experiments, scale, [0], ["a=1"]) if job.row != "CE"]
        for scale in ("cpu", "gpu")
    )
    row = ("loss=ntl", "loss.weight=0.5")
    # After the row's own, before those for one experiment and those of the command line.
    assert cpu == [
        (*row, "model=small", "loss.weight=1", "a=1"),
        (*row, "model=small", "loss.weight=1", "loss.weight=2", "b=3", "a=1"),
    ]
    assert gpu == [
        (*row, "model=large", "a=1"),
        (*row, "model=large", "loss.weight=2", "b=4", "a=1"),
    ]


def test_published_weights_come_with_their_tokenizer():
    table = load_table(next(path for path in REAL if path.stem == "ntl-5"))
    for scale, pretrained in (("cpu", False), ("paper", True)):
        (job,) = (job for job in jobs(table, scale, seeds=[0]) if job.row == "GPT-2 CE")
        config = compose(job.overrides)
        assert (config.model.pretrained is not None) == pretrained
        assert (config.tokenizer.model == config.model.pretrained) and config.scale == scale


def test_what_differs_everywhere_follows_what_differs_at_a_scale(table):
    assert table.differs("cpu") == "a toy, on the raw scale"
    assert table.differs("gpu") == ""
    table.note = "seeds are repeats"
    assert table.differs("cpu") == "a toy, on the raw scale; seeds are repeats"
    assert table.differs("gpu") == "seeds are repeats"


def test_a_table_of_our_own_needs_no_paper(table, reports):
    table.paper = None
    for row in table.rows:
        row.paper = {}
    frame = tabulate(table, reports)
    assert frame["paper"].isna().all()
    assert cells(frame)["CE", "test/accuracy"].ours.n == 3


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
        ("label: CE", "label: CE, without: [speed]", r"without: no columns of \['speed'\]"),
        ("table2.csv", "table99.csv", "table99.csv"),
        ("id: bad", "id: other", "not the file's name"),
        ("overrides: [loss=ce]}", "overrides: []}, {label: CE, overrides: []}", "same label"),
        (
            "title: T",
            "title: T\ncontrasts: [{label: a, weights: {CE: 1}, share_of: b}]",
            "the label of a contrast",
        ),
        ("rows: [", "rows: [[", "bad.yaml"),
        ("[loss=ce]", "[loss=ce], overrides_for: {ntl/x: [a=1]}", r"experiments \['ntl/x'\]"),
        ("[loss=ce]", "[loss=ce], overrides_at: {gpu: [a=1]}", r"without seeds \['gpu'\]"),
        ("{cpu: a note}", "{gpu: a note}", r"notes: scales without seeds \['gpu'\]"),
        (
            "title: T",
            "title: T\nalso: [{experiment: ntl/x, splits: [interpolate], columns: []}]",
            "a split of the same name",
        ),
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


def test_numbers_of_the_paper_need_its_csv(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace("paper: ntl/table2.csv\n", ""))
    assert load_table(path).paper is None
    keyed = "overrides: [loss=ce], paper: {loss: CE}"
    path.write_text(path.read_text().replace("overrides: [loss=ce]", keyed))
    with pytest.raises(UsageError, match=r"bad.yaml: \['CE'\] .*: name their csv with paper:"):
        load_table(path)


def test_an_unknown_table_names_the_known_ones(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    with pytest.raises(UsageError, match="no table 'b'; known: a"):
        load_table(tmp_path / "b.yaml")
