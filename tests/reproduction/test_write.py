"""Files are written from reports alone."""

import errno
import json
import os

import pytest

from beyond_ce.errors import RunError, UsageError
from beyond_ce.reporting.tables import Job
from beyond_ce.reproduction.plan import Plan, plan
from beyond_ce.reproduction.write import write, write_claims


def test_written_from_reports_alone(make_plan, run):
    plan = make_plan("ce", seeds=(0, 1))
    with pytest.raises(UsageError, match="no finished run of ntl-2 at scale cpu: run `make"):
        write(plan)
    for job, config in plan.configs.items():
        run(config)
        (plan.folder(job) / "DONE").unlink()
    configs = {Job("CE", job.seed, ()): config for job, config in plan.configs.items()}
    plan = Plan(plan.table, plan.scale, configs, plan.command)
    assert not plan.any_done()
    paths = write(plan, latex=True)
    assert {suffix: path.name for suffix, path in paths.items()} == {
        suffix: f"ntl-2.{suffix}" for suffix in ("csv", "md", "tex")
    }
    assert "CE,interpolate/accuracy,0.55,0.0707107," in paths["csv"].read_text()
    assert "Minutes: 0.2" in paths["md"].read_text()
    with pytest.raises(UsageError, match="no finished run"):
        write(plan, only_done=True)


def test_a_page_names_the_runs_that_are_missing(make_plan, run):
    plan = make_plan("ce", "ntl", seeds=(0, 1))
    for job, config in plan.configs.items():
        if job.row == "ce 0" and job.seed == 0:
            run(config)
    text = write(plan)["md"].read_text()
    assert "**3 of 4 missing.**\n- Missing: ce 0 (seed 1); ntl 1 (seeds 0, 1)\n" in text
    for config in plan.configs.values():
        run(config)
    assert "issing" not in write(plan)["md"].read_text()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda report: {**report, "hardware": "a CPU"}, "damaged \\(its hardware is missing or"),
        (lambda report: {k: v for k, v in report.items() if k != "steps"}, "its steps is missing"),
        (lambda report: {**report, "metrics": {"a": "b"}}, r"report\.json is damaged \(a='b'"),
        (lambda report: {}, r"report\.json is damaged"),
    ],
)
def test_a_damaged_report_ends_a_table_in_one_line(make_plan, run, damage, message):
    """And leaves the page as it was: its row does not disappear."""
    plan = make_plan("ce", seeds=(0, 1))
    for config in plan.configs.values():
        run(config)
    page = write(plan)["md"]
    before = page.read_text()
    job = next(iter(plan.configs))
    path = plan.folder(job) / "report.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(RunError, match=message) as error:
        write(plan)
    assert plan.folder(job).name in str(error.value) and "\n" not in str(error.value)
    assert page.read_text() == before


def test_a_breakdown_is_a_second_csv(make_plan, run):
    plan = make_plan("ce")
    plan.table.breakdown = ["accuracy"]
    for config in plan.configs.values():
        run(config)
    path = write(plan)["tasks"]
    assert path.name == "ntl-2-tasks.csv"
    assert path.read_text() == "row,split,task,metric,mean,std,ci_low,ci_high,n_seeds\n"


def test_a_full_disk_replaces_no_file_of_a_table(make_plan, run, monkeypatch):
    plan = make_plan("ce")
    plan.table.breakdown = ["accuracy"]
    for config in plan.configs.values():
        run(config)
    paths = write(plan, latex=True)
    assert set(paths) == {"csv", "md", "tex", "tasks"}
    for path in paths.values():
        path.write_text("old")
    for suffix in paths:
        rest = iter(paths)

        def full(descriptor, suffix=suffix, rest=rest):
            if next(rest) == suffix:
                raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(
                RunError, match=r"cannot write .*ntl-2\.csv: No space left on device"
            ):
                write(plan, latex=True)
        assert {path.read_text() for path in paths.values()} == {"old"}
        assert len(list(paths["csv"].parent.iterdir())) == 4


TABLE = """\
id: toy
title: T
source: S
paper: ntl/table2.csv
experiment: ntl/arithmetic
seeds: {cpu: [0, 1, 2]}
splits: [interpolate]
columns: [{metric: accuracy, name: Accuracy, better: higher}]
rows: [{label: CE, overrides: [loss=ce]}, {label: NTL, overrides: [loss=ntl_was]}]
notes: {cpu: a note}
"""
CLAIM = """\
claims:
  - id: ntl-wins
    claim: NTL wins.
    source: S
    kind: better
    table: toy
    conditions: [{metric: interpolate/accuracy, weights: {NTL: 1, CE: -1}}]
"""


def test_claims_are_judged_on_the_reports_of_their_table(tmp_path, monkeypatch):
    for module in ("plan", "write"):
        monkeypatch.setattr(f"beyond_ce.reproduction.{module}.CONF_DIR", tmp_path)
    for name, text in [("table", TABLE), ("claims", CLAIM)]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "toy.yaml").write_text(text)
    results = tmp_path / "results"
    results.mkdir()
    assert "## Scale" not in write_claims(results).read_text()
    made = plan("toy", "cpu", overrides=[f"results_dir={results}"])
    for job in made.configs:
        accuracy = 0.9 + job.seed / 100 if job.row == "NTL" else 0.1
        made.folder(job).mkdir(parents=True)
        metrics = {"interpolate/accuracy": accuracy}
        report = {"run": made.folder(job).name, "metrics": metrics}
        (made.folder(job) / "report.json").write_text(json.dumps(report))
    (results / "tables" / "cpu").mkdir(parents=True)
    (results / "tables" / "cpu" / "toy.csv").touch()
    text = write_claims(results).read_text()
    assert "## Scale cpu" in text
    assert "| `ntl-wins`: NTL wins. | reproduced | **+0.810 [+0.785, +0.835]** |     3 |" in text
    assert "## Scale gpu" not in text
