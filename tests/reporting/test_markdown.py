import math
from pathlib import Path

from beyond_ce.reporting.markdown import to_markdown
from beyond_ce.reporting.numbers import tabulate
from beyond_ce.reporting.tables import Column, Job, Part, Row

SNAPSHOT = Path(__file__).with_name("toy.md")


def test_snapshot(table, reports):
    text = to_markdown(table, tabulate(table, reports), reports, "cpu", "make toy", 6)
    assert text == SNAPSHOT.read_text(encoding="utf-8")


def test_an_unfinished_table_says_so(table, reports):
    some = {Job("CE", 0, ()): {**reports[Job("CE", 0, ())], "dirty": True, "commit": None}}
    text = to_markdown(table, tabulate(table, some), some, "cpu", "make toy", 6)
    assert "**5 of 6 missing.**" in text
    assert "| CE        |       0.10 | 0.30 ± 0.01 |   4.0 |   2.0 |" in text
    assert "| NTL λ=0.5 |          – | 0.40 ± 0.02 |     – |   1.0 |" in text
    assert "unknown with local changes" in text
    assert "nan" not in text.replace("Provenance", "")


def test_a_runaway_answer_does_not_blow_up_the_table(table, reports):
    reports[Job("CE", 0, ())]["metrics"]["test/mae"] = 5e9
    text = to_markdown(table, tabulate(table, reports), reports, "cpu", "make toy", 6)
    assert "| 1.7e+09 ± 2.9e+09 |" in text
    assert "-1.7e+09 [-8.8e+09, +5.5e+09]" in text


def test_further_experiments_and_the_breakdown_have_their_place(table, reports):
    table.also = [
        Part(
            experiment="toy/jokes",
            name="Jokes",
            splits=["dev"],
            columns=[Column("rmse", "RMSE", ".1f", "lower", "RMSE")],
        )
    ]
    table.breakdown = ["accuracy"]
    text = to_markdown(table, tabulate(table, reports), reports, "cpu", "make toy", 12)
    jokes = text[text.index("## Jokes: dev") : text.index("## Provenance")]
    assert "| CE        |      – |     – |" in jokes
    assert "Accuracy" not in jokes
    assert "Beside" not in jokes
    assert "0.0" not in jokes
    assert "[toy-tasks.csv](toy-tasks.csv)" in jokes
    assert "**6 of 12 missing.**" in text


def test_a_row_of_other_scales_is_left_to_the_paper(table, reports):
    table.rows[1].scales = ["gpu"]
    table.rows.append(Row("Large", ["model=large"], scales=["gpu"]))
    table.baseline, table.contrasts = None, []
    text = to_markdown(table, tabulate(table, reports), reports, "cpu", "make toy", 3)
    assert "| NTL λ=0.5 | " in text[: text.index("Beside")]
    assert "NTL λ=0.5" not in text[text.index("Beside") :]
    assert "Large" not in text


def test_a_model_that_is_evaluated_as_it_is_has_its_size(table, reports):
    for report in reports.values():
        report.update(steps=0, samples=0)
    text = to_markdown(table, tabulate(table, reports), reports, "cpu", "make toy", 3)
    assert "no model, 0 samples" in text
    for report in reports.values():
        report["metrics"]["validation/loss"] = 0.5
    text = to_markdown(table, tabulate(table, reports), reports, "cpu", "make toy", 3)
    assert "0.21 M parameters, 0 steps, 0 samples" in text and "no model" not in text


def test_rows_that_are_one_run_count_once(table, reports):
    reports = {job: {**report, "run": job.seed} for job, report in reports.items()}
    text = to_markdown(table, tabulate(table, reports), reports, "cpu", "make toy", 3)
    assert "- Runs: 3, seeds [0, 1, 2]" in text
    assert "- Minutes: 1.5," in text
    assert "missing" not in text


def test_a_seed_without_a_number_is_named(table, reports):
    whole = to_markdown(table, tabulate(table, reports), reports, "cpu", "make toy", 6)
    assert "Undefined" not in whole
    for seed in (0, 2):
        reports[Job("CE", seed, ())]["metrics"]["test/mae"] = math.nan
    text = to_markdown(table, tabulate(table, reports), reports, "cpu", "make toy", 6)
    assert "- Undefined, and not in the means: Test, CE, MAE (seeds 0, 2)" in text
