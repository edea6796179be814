import json
import sys
from functools import partial

import pytest
import submitit
from omegaconf import OmegaConf

from beyond_ce.configuration import CONF_DIR
from beyond_ce.errors import UsageError
from beyond_ce.reporting.tables import Job, load_table
from beyond_ce.reproduction.launch import (
    default_jobs,
    prepare_once,
    run_local,
    run_slurm,
    slurm_parameters,
)
from beyond_ce.reproduction.plan import Plan, argument_parser, plan, plans, table_ids
from beyond_ce.reproduction.write import write, write_claims

# What the workers import in the place of an experiment.
STAND_IN = """
import json
from beyond_ce.runs.identity import run_folder

def run(config):
    folder = run_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.parents[1] / "calls", "a") as calls:
        calls.write(f"{config.loss} {config.seed} {config.trainer.progress}\\n")
    if config.loss == "broken":
        raise RuntimeError("first line\\nsecond line")
    report = {
        "run": folder.name,
        "metrics": {"interpolate/accuracy": 0.5 + config.seed / 10}, "commit": "c0ffee",
        "dirty": False, "hardware": {"cpu": "A CPU", "cores": 2, "gpu": None},
        "parameters": 1, "steps": 2, "samples": 3, "wall_clock_s": 6.0,
    }
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "DONE").touch()
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The stand-in's `run`, importable in other processes."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "stand_in", raising=False)
    import stand_in

    return stand_in.run


@pytest.fixture
def make_plan(tmp_path):
    def make(*losses, seeds=(0,)):
        configs = {
            Job(f"{loss} {i}", seed, ()): OmegaConf.create(
                {
                    "results_dir": str(tmp_path / "results"),
                    "dataset": {"name": "sums"},
                    "tokenizer": {"name": "digit"},
                    "trainer": {"progress": True, "num_threads": 1, "accelerator": "cpu"},
                    "loss": loss,
                    "seed": seed,
                }
            )
            for i, loss in enumerate(losses)
            for seed in seeds
        }
        table = load_table(CONF_DIR / "table" / "ntl-2.yaml")
        return Plan(table, "cpu", configs, "make reproduce-table-ntl-2 SCALE=cpu")

    return make


@pytest.fixture
def calls(tmp_path):
    path = tmp_path / "results" / "calls"
    return lambda: [line.split() for line in path.read_text().splitlines()]


def test_runs_what_is_missing_once_and_reports_what_failed(make_plan, run, calls, capfd):
    plan = make_plan("ce", "broken", "ce", seeds=(0, 1))
    failures = run_local(plan, run, max_jobs=2)
    assert sorted(failures) == [
        "broken 1, seed 0: RuntimeError: first line second line",
        "broken 1, seed 1: RuntimeError: first line second line",
    ]
    assert "failed: broken 1, seed 0" in capfd.readouterr().out
    # Rows 0 and 2 are the same run; the workers' own bars are off.
    assert sorted(calls()) == sorted(
        [loss, seed, "False"] for loss in ("ce", "broken") for seed in "01"
    )
    assert {job.row for job in plan.missing().values()} == {"broken 1"}
    assert run_local(make_plan("ce"), run, max_jobs=2) == []
    assert len(calls()) == 4


def test_slurm_gets_the_launchers_settings():
    parameters = slurm_parameters(["hydra.launcher.partition=gpu", "seed=3"])
    assert parameters["slurm_partition"] == "gpu"
    assert parameters["timeout_min"] > 0
    assert not {"_target_", "submitit_folder", "slurm__target_"} & set(parameters)


@pytest.mark.slow
def test_one_array_of_what_is_missing(make_plan, run, monkeypatch):
    """Submitit's local executor in the place of SLURM."""
    quick = partial(submitit.helpers.as_completed, poll_frequency=0.2)
    monkeypatch.setattr(submitit.helpers, "as_completed", quick)
    plan = make_plan("ce", "broken")
    failures = run_slurm(plan, run, cluster="local")
    assert failures == ["broken 1, seed 0: RuntimeError: first line second line"]
    assert [job.row for job in plan.missing().values()] == ["broken 1"]
    assert run_slurm(make_plan("ce"), run, cluster="local") == []


def test_without_slurm_one_line_says_so(make_plan, run, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="cannot submit to SLURM"):
        run_slurm(make_plan("ce"), run)


def test_data_and_tokenizer_are_prepared_once(make_plan):
    plan = make_plan("ce", "ntl", seeds=(0, 1))
    prepared = []
    list(plan.configs.values())[3].tokenizer.name = "subword"
    prepare_once(plan, prepared.append)
    assert [config.tokenizer.name for config in prepared] == ["digit", "subword"]


def test_one_run_per_core(make_plan, monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 7)
    plan = make_plan("ce")
    assert default_jobs(plan) == 7
    config = next(iter(plan.configs.values()))
    config.trainer.num_threads = 2
    assert default_jobs(plan) == 3
    config.trainer.num_threads = 0
    assert default_jobs(plan) == 1
    config.trainer.num_threads = 1
    plan.table.alone = True
    assert default_jobs(plan) == 1


def test_written_from_reports_alone(make_plan, run):
    plan = make_plan("ce", seeds=(0, 1))
    with pytest.raises(UsageError, match="no finished run of ntl-2 at scale cpu: first `make"):
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


def test_a_bare_number_means_both_papers(capsys):
    assert table_ids("2") == (["ntl-2"], ["mtp-2"])
    assert table_ids("ntl-6") == (["ntl-6"], [])
    with pytest.raises(UsageError, match="no table '99'; known: .*ntl-1, "):
        table_ids("99")


def test_arguments_name_tables_scale_seeds_and_overrides(monkeypatch, capsys):
    planned = []
    monkeypatch.setattr(
        "beyond_ce.reproduction.plan.plan", lambda *arguments: planned.append(arguments)
    )
    arguments = ["2", "ntl-2", "--scale", "gpu", "--seeds", "4,5", "a.b=3", "ntl-1"]
    plans(argument_parser("").parse_intermixed_args(arguments))
    assert planned == [(each, "gpu", [4, 5], ["a.b=3"]) for each in ("ntl-2", "ntl-1")]
    assert "no table mtp-2" in capsys.readouterr().out
    for wrong in (["a.b=3"], ["ntl-2", "--seeds", "a"]):
        with pytest.raises(UsageError):
            plans(argument_parser("").parse_intermixed_args(wrong))


def test_a_plan_composes_every_run_and_tells_its_command(tmp_path):
    overrides = ["trainer.max_steps=7", f"results_dir={tmp_path}"]
    made = plan("ntl-6", "smoke", [3, 4], overrides)
    assert len(made.configs) == 2 * 4 * 2  # two experiments
    assert {config.seed for config in made.configs.values()} == {3, 4}
    assert {config.trainer.max_steps for config in made.configs.values()} == {7}
    assert made.results == tmp_path
    assert made.command == (
        'make reproduce-table-ntl-6 SCALE=smoke ARGS="--seeds 3,4 trainer.max_steps=7"'
    )
    # The 2x2 takes its digit runs on arithmetic from table 2.
    other = plan("ntl-2", "smoke", [3, 4], overrides)
    assert len(made.missing().keys() & other.missing().keys()) == 4


TABLES = sorted(path.stem for path in (CONF_DIR / "table").glob("*.yaml"))


@pytest.mark.parametrize("table_id", TABLES)
def test_every_row_of_every_table_composes(table_id):
    assert plan(table_id, "cpu", [0]).configs


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["smoke", "gpu", "paper"])
@pytest.mark.parametrize("table_id", TABLES)
def test_every_row_of_every_table_composes_at_every_scale(table_id, scale):
    assert plan(table_id, scale, [0]).configs


def test_a_breakdown_is_a_second_csv(make_plan, run):
    plan = make_plan("ce")
    plan.table.breakdown = ["accuracy"]
    for config in plan.configs.values():
        run(config)
    path = write(plan)["tasks"]
    assert path.name == "ntl-2-tasks.csv"
    assert path.read_text() == "row,split,task,metric,mean,std,ci_low,ci_high,n_seeds\n"


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
        report = {"metrics": {"interpolate/accuracy": accuracy}}
        (made.folder(job) / "report.json").write_text(json.dumps(report))
    (results / "tables" / "cpu").mkdir(parents=True)
    (results / "tables" / "cpu" / "toy.csv").touch()
    text = write_claims(results).read_text()
    assert "## Scale cpu" in text
    assert "| `ntl-wins`: NTL wins. | reproduced | **+0.810 [+0.785, +0.835]** |     3 |" in text
    assert "## Scale gpu" not in text


@pytest.mark.parametrize("override", ["seed=3", "scale=gpu", "+experiment=x"])
def test_an_override_that_would_blur_the_rows_is_refused(override):
    with pytest.raises(UsageError, match="a table sets this itself"):
        plan("ntl-2", "smoke", None, [override])
