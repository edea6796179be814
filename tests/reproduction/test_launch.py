"""What is missing is run: here in processes, or as a SLURM array."""

from dataclasses import replace
from pathlib import Path

import pytest
from joblib import cpu_count

from beyond_ce.errors import UsageError
from beyond_ce.reproduction.launch import (
    default_jobs,
    prepare_once,
    run_local,
    run_slurm,
    slurm_parameters,
    train_beforehand,
)
from beyond_ce.runs.state import job_of, state_of


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
        [loss, seed, "False", "1"] for loss in ("ce", "broken") for seed in "01"
    )
    assert {job.row for job in plan.missing().values()} == {"broken 1"}
    assert run_local(make_plan("ce"), run, max_jobs=2) == []
    assert len(calls()) == 4


def test_what_is_scored_alone_is_trained_together(make_plan, run, calls):
    """As many at a time as there are cores, one thread each; what is not trained is left out."""
    plan = make_plan("ce", "untrained", "mse")
    for job, config in plan.configs.items():
        config.trainer.num_threads = 2
        config.trainer.max_steps = 0 if job.row == "untrained 1" else 5
    plan = replace(plan, table=replace(plan.table, alone=True))
    assert default_jobs(plan) == 1
    train_beforehand(plan, run, max_jobs=2)
    threads = str(max(1, cpu_count() // 2))
    assert sorted(calls()) == [["ce", "0", "False", threads], ["mse", "0", "False", threads]]
    train_beforehand(plan, run)  # not of one run that is missing
    assert run_local(plan, run, max_jobs=1) == []
    assert calls()[2:] == [["untrained", "0", "False", "2"]]


def test_slurm_gets_the_launchers_settings():
    parameters = slurm_parameters(["hydra.launcher.partition=gpu", "seed=3"])
    assert parameters["slurm_partition"] == "gpu"
    assert parameters["timeout_min"] > 0
    assert not {"_target_", "submitit_folder", "slurm__target_"} & set(parameters)


@pytest.mark.slow
def test_one_array_of_what_is_missing(make_plan, run):
    """Submitit's local executor in the place of SLURM."""
    plan = make_plan("ce", "broken")
    failures = run_slurm([plan], run, cluster="local")
    assert failures == ["broken 1, seed 0: RuntimeError: first line second line"]
    assert [job.row for job in plan.missing().values()] == ["broken 1"]
    assert run_slurm([make_plan("ce")], run, cluster="local") == []


@pytest.mark.slurm
def test_sources_are_dependencies_and_what_is_queued_is_not_submitted_again(
    cluster, make_plan, run, calls, monkeypatch, capfd
):
    """On a real SLURM: left alone, and collected later by the same command."""
    monkeypatch.setenv("SLURM_CONF", cluster["SLURM_CONF"])
    small = ["gpus_per_node=0", "cpus_per_task=1", "mem_gb=1", "timeout_min=5"]
    settings = [f"hydra.launcher.{setting}" for setting in small]
    plans = [make_plan("source"), make_plan("ce", "broken")]
    assert run_slurm(plans, run, settings, detach=True) == []
    first = capfd.readouterr().out
    assert first.startswith("3 runs are queued or running as SLURM jobs")
    source, (good, broken) = plans[0].configs, plans[1].configs
    jobs = [job_of(plans[i].folder(job)) for i, job in ((0, *source), (1, good), (1, broken))]
    array = jobs[1].split("_")[0]
    assert jobs[2] == f"{array}_1" and jobs[0] in first
    state = state_of(plans[1].folder(good), plans[1].configs[good])
    assert (state.name, state.job) == ("queued", f"{array}_0")

    assert run_slurm(plans, run, settings) == [
        "broken 1, seed 0: RuntimeError: first line second line"
    ]
    output = capfd.readouterr()
    assert "queued" in output.err and "running" in output.err
    assert next(loss for loss, *_ in calls()) == "source"
    assert sorted(loss for loss, *_ in calls()) == ["broken", "ce", "source"]
    state = state_of(plans[1].folder(broken), plans[1].configs[broken])
    assert (state.name, state.reason) == ("failed", "RuntimeError: first line second line")
    assert "first line" in Path(state.log).read_text()
    assert state_of(plans[1].folder(good), plans[1].configs[good]).name == "done"

    # What starts from a run that failed is not started.
    plans = [make_plan("broken"), make_plan("later")]
    failures = run_slurm(plans, run, settings)
    assert len(failures) == 2 and "ended without a result" in failures[1]
    assert "later" not in {loss for loss, *_ in calls()}


def test_without_slurm_one_line_says_so(make_plan, run, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="cannot submit to SLURM"):
        run_slurm([make_plan("ce")], run)


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
