"""Files are written from reports alone."""

import errno
import json
import os
import re
import shutil
import subprocess

import pandas as pd
import pytest

from beyond_ce.configuration import CONF_DIR
from beyond_ce.errors import RunError, UsageError
from beyond_ce.reporting.outcomes import outcomes
from beyond_ce.reporting.tables import Job, load_table
from beyond_ce.reproduction.plan import Plan, plan
from beyond_ce.reproduction.write import keep_reports, write, write_claims
from beyond_ce.runs.identity import kept_folder

ROOT = CONF_DIR.parent


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


def test_kept_reports_stand_in_for_runs_that_did_not_end_here(make_plan, run):
    plan = make_plan("ce", seeds=(0, 1))
    plan = Plan(
        plan.table,
        plan.scale,
        {Job("CE", job.seed, ()): config for job, config in plan.configs.items()},
        plan.command,
    )
    for job, config in plan.configs.items():
        run(config)
        kept = kept_folder(config)
        assert kept == plan.results / "reports" / plan.folder(job).name
    assert len(keep_reports(plan)) == 2
    table = write(plan)["csv"].read_text()
    for job in plan.configs:
        shutil.rmtree(plan.folder(job))
    assert plan.missing() and write(plan)["csv"].read_text() == table
    with pytest.raises(UsageError, match="no finished run"):
        write(plan, only_done=True)
    assert keep_reports(plan) == []  # nothing has run here

    # Repeated with another result: the run's own report counts, the kept one stays until asked.
    job, config = next(iter(plan.configs.items()))
    run(config)
    own, kept = plan.folder(job) / "report.json", kept_folder(config) / "report.json"
    before = kept.read_bytes()
    own.write_text(own.read_text().replace('"wall_clock_s": 6.0', '"wall_clock_s": 7.0'))
    assert keep_reports(plan) == []  # the same metrics, in another time
    own.write_text(own.read_text().replace("0.5", "0.25"))
    assert "CE,interpolate/accuracy,0.425," in write(plan)["csv"].read_text()
    assert kept.read_bytes() == before
    (kept.parent / "evaluation").mkdir()
    (kept.parent / "evaluation" / "test.parquet").write_text("old")
    (own.parent / "evaluation").mkdir()
    for name in ("test", "other"):
        (own.parent / "evaluation" / f"{name}.parquet").write_text("new")
    predictions = kept.parent / "evaluation" / "test.parquet"
    assert keep_reports(plan) == [kept, predictions]
    assert kept.read_bytes() == own.read_bytes() and predictions.read_text() == "new"


@pytest.mark.skipif(not (CONF_DIR.parent / ".git").exists(), reason="not a git checkout")
def test_git_ignores_what_runs_write():
    """A clone stays as it was after any command at scale smoke."""
    for name in ("results/runs/a/report.json", "results/tables/smoke/a.csv", "results/slurm/a"):
        ignored = subprocess.run(["git", "check-ignore", "-q", name], cwd=CONF_DIR.parent)
        assert ignored.returncode == 0, name
    tracked = subprocess.run(
        ["git", "ls-files", "results/runs", "results/tables/smoke"],
        cwd=CONF_DIR.parent,
        capture_output=True,
        text=True,
    )
    assert tracked.stdout == ""


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


def test_a_page_names_the_runs_that_its_runs_start_from(make_plan, run):
    plan = make_plan("ce", seeds=(0, 1))
    for job, config in plan.configs.items():
        config.start = {
            **{"experiment": "a/b/cpu", "overrides": ["head.n=2"], "source": {"seed": job.seed}},
            **{"checkpoint": "last", "weights": "float32"},
        }
        run(config)
        # Its recipe had another name when it was made, which now may be another recipe's.
        path = plan.folder(job) / "report.json"
        then = {"config": {"start": {"experiment": "a/old/cpu"}}}
        path.write_text(json.dumps({**json.loads(path.read_text()), **then}))
    assert (
        "- Starts from: `experiment=a/b/cpu head.n=2`, seeds [0, 1]\n"
        in write(plan)["md"].read_text()
    )


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
    for module in ("plan", "claims", "write"):
        monkeypatch.setattr(f"beyond_ce.reproduction.{module}.CONF_DIR", tmp_path)
    for name, text in [("table", TABLE), ("claims", CLAIM)]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "toy.yaml").write_text(text)
    results = tmp_path / "results"
    results.mkdir()
    with pytest.raises(UsageError, match="no table of a claim: make one, or set --results"):
        write_claims(results)
    assert not (results / "claims.md").exists()
    assert "`make claims`" in outcomes(results, "cpu", "toy")
    made = plan("toy", "cpu", overrides=[f"results_dir={results}"])
    for job in made.configs:
        accuracy = 0.9 + job.seed / 100 if job.row == "NTL" else 0.1
        made.folder(job).mkdir(parents=True)
        metrics = {"interpolate/accuracy": accuracy}
        report = {"run": made.folder(job).name, "metrics": metrics}
        (made.folder(job) / "report.json").write_text(json.dumps(report))
    (results / "tables" / "cpu").mkdir(parents=True)
    (results / "tables" / "cpu" / "toy.csv").touch()
    path, undecided = write_claims(results)
    text = path.read_text()
    assert "## Scale cpu" in text
    line = "| `ntl-wins`: NTL wins. | reproduced | – | **+0.810 [+0.785, +0.835]** | 3 | 0.033 |"
    assert line in " ".join(text.split())
    assert "## Scale gpu" not in text
    assert undecided == []
    (judged,) = pd.read_csv(results / "claims.csv").itertuples()
    assert (judged.scale, judged.claim, judged.verdict) == ("cpu", "ntl-wins", "reproduced")
    assert (judged.effect, judged.n_seeds) == (pytest.approx(0.81), 3)
    assert judged.ci_low == pytest.approx(0.81 - 4.302653 * 0.01 / 3**0.5, abs=1e-6)
    assert judged.printed == "+0.810 [+0.785, +0.835]"
    assert outcomes(results, "cpu", "toy").splitlines()[2:] == [
        "- **reproduced**: NTL wins. +0.810 [+0.785, +0.835] in interpolate/accuracy, 3 seeds"
    ]
    assert outcomes(results, "cpu", "another") == ""
    # A fourth seed is a second stage: the mean of four, the spread of the first three.
    for job in [job for job in made.configs if job.seed == 0]:
        config = made.configs[job].copy()
        config.seed = 3
        folder = Plan(made.table, "cpu", {job: config}, "").folder(job)
        folder.mkdir(parents=True)
        metrics = {"interpolate/accuracy": 0.902 if job.row == "NTL" else 0.1}
        (folder / "report.json").write_text(json.dumps({"run": folder.name, "metrics": metrics}))
    text = " ".join(write_claims(results)[0].read_text().split())
    mean, half = (0.8 + 0.81 + 0.82 + 0.802) / 4, 4.302653 * 0.01 / 4**0.5
    assert f"**{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]** | 4 |" in text
    # Both files or neither: a csv that says other than the ledger would be worse than an old one.
    before = path.read_bytes(), (results / "claims.csv").read_bytes()

    def fill_the_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("beyond_ce.reproduction.write.write_csv", fill_the_disk)
    monkeypatch.setattr("beyond_ce.reproduction.write.ledger", lambda *_: "another")
    with pytest.raises(RunError, match="No space left"):
        write_claims(results)
    assert (path.read_bytes(), (results / "claims.csv").read_bytes()) == before


def test_the_pages_say_of_their_tables_what_the_definitions_say():
    pages = sorted((ROOT / "results" / "tables").glob("*/*.md"))
    assert pages
    for page in pages:
        table = load_table(CONF_DIR / "table" / f"{page.stem}.yaml")
        line = f"- Differs from the paper: {table.differs(page.parent.name)}"
        assert line in page.read_text(encoding="utf-8").splitlines(), f"make {page.stem} anew"


def test_the_verdicts_of_the_csv_are_those_of_the_ledger():
    judged = pd.read_csv(ROOT / "results" / "claims.csv")
    ledger = (ROOT / "results" / "claims.md").read_text(encoding="utf-8")
    scales = re.split(r"^## Scale (\w+)$", ledger, flags=re.MULTILINE)
    for scale, text in zip(scales[1::2], scales[2::2], strict=True):
        lines = [each for each in text.splitlines() if each.startswith("| `")]
        found = [[cell.strip() for cell in each.split("|")[1:-1]] for each in lines]
        found = [cells for cells in found if len(cells) == 11]  # not what changed afterwards
        ours = judged[judged["scale"] == scale]
        assert [f"`{each.claim}`: {each.sentence}" for each in ours.itertuples()] == [
            cells[0] for cells in found
        ]
        assert list(ours["label"]) == [cells[1] for cells in found], "make claims"
        assert list(ours["printed"]) == [cells[3].strip("*") for cells in found], "make claims"
