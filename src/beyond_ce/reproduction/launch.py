"""Runs a table's missing runs, in processes on this machine or as a SLURM job array."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import submitit
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from beyond_ce.configuration import CONF_DIR
from beyond_ce.errors import UsageError
from beyond_ce.reporting.tables import Job
from beyond_ce.reproduction.plan import Plan
from beyond_ce.reproduction.workers import (
    Task,
    error_line,
    print_error,
    run_command,
    run_tasks,
)
from beyond_ce.runs.checks import check_settings

Run = Callable[[DictConfig], Any]  # runs.experiment.run, or a stand-in for it in the tests


def check_configs(plan: Plan) -> None:
    """Refuses wrong settings in any row of the table, before anything runs.

    Raises:
        UsageError: for the first that is refused.
    """
    # The seeds of a row differ in nothing else: one of its configs stands for all.
    for config in {job.overrides: config for job, config in plan.configs.items()}.values():
        check_settings(config)


def prepare_once(plan: Plan, prepare: Run) -> None:
    """Calls `prepare` for each distinct data set and tokenizer among the missing runs.

    Otherwise runs that start at the same time would all generate the same data.
    """
    prepared = []
    for job in plan.missing().values():
        config = plan.configs[job]
        inputs = OmegaConf.to_container(config, resolve=True)
        assert isinstance(inputs, dict)
        inputs = {group: inputs.get(group) for group in ("dataset", "tokenizer", "start")}
        if inputs not in prepared:
            prepared.append(inputs)
            prepare(config)


def default_jobs(plan: Plan) -> int:
    """Runs at a time: as many as the cores or the GPUs allow, but one if the runs measure time."""
    if plan.table.alone:
        return 1
    from joblib import cpu_count  # honours CPU quotas of containers, os.cpu_count does not

    config = next(iter(plan.configs.values()))
    if gpus := _gpus(config):
        most = max(_devices(config) for config in plan.configs.values())
        return max(1, len(gpus) // most)
    threads = config.trainer.num_threads or cpu_count()
    return max(1, cpu_count() // threads)


def run_local(plan: Plan, run: Run, max_jobs: int) -> list[str]:
    """Runs what is missing in `max_jobs` processes; returns one line per failed run.

    Each run prints into `output.log` of its folder. On a machine with several GPUs, each process
    has one of them. A run on several devices is a command of its own, as Fabric starts its other
    processes by repeating the command.
    """
    missing = plan.missing()
    tasks, gpus = [], []
    for folder, job in missing.items():
        config = plan.configs[job].copy()
        config.trainer.progress = False
        log = folder / "output.log"
        if _devices(config) > 1:
            tasks.append(Task(run_command, _command(job), log))
        else:
            tasks.append(Task(run, config, log))
            gpus = _gpus(config)
    if any(task.function is run_command for task in tasks):
        gpus = []  # such a run sees all GPUs
    with _Progress(plan, len(tasks)) as progress:
        run_tasks(
            tasks,
            max_jobs,
            on_done=lambda task, error: progress.finish(missing[task.log.parent], error, task.log),
            gpus=gpus,
        )
    return progress.failures


def _command(job: Job) -> list[str]:
    """The command that trains one run of a table."""
    script = str(CONF_DIR.parent / "scripts" / "train.py")
    return [sys.executable, script, *job.overrides, f"seed={job.seed}", "trainer.progress=false"]


def _devices(config: DictConfig) -> int:
    """How many devices of this machine a run takes."""
    if "baseline" in config:
        return 1
    devices = config.trainer.devices
    if isinstance(devices, int) and devices != -1:
        return devices
    if OmegaConf.is_list(devices):
        return len(devices)
    return max(1, len(_gpus(config)))  # -1 and "auto" are all


def _gpus(config: DictConfig) -> list[str]:
    """The GPUs that a run of this config may use; none for one on a CPU."""
    import torch

    if config.trainer.accelerator == "cpu" or not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else list(map(str, range(torch.cuda.device_count())))


def run_slurm(
    plan: Plan, run: Run, overrides: Sequence[str] = (), cluster: str = "slurm"
) -> list[str]:
    """Submits what is missing as one job array and waits; returns one line per failed run.

    Partition, time and so on come from conf/hydra/launcher/slurm.yaml and from `hydra.launcher.*`
    among the overrides. A preempted or timed out job requeues itself and resumes.
    """
    todo = list(plan.missing().items())
    if not todo:
        return []
    parameters = slurm_parameters(overrides)
    settings = {k: parameters.pop(k) for k in ("slurm_max_num_timeout",) if k in parameters}
    try:
        executor = submitit.AutoExecutor(plan.results / "slurm" / "%j", cluster=cluster, **settings)
    except RuntimeError as error:
        raise UsageError(f"cannot submit to SLURM: {error}; use --launcher local") from error
    executor.update_parameters(**parameters)
    submitted = executor.map_array(_Resumable(run), [plan.configs[job] for _, job in todo])
    names = {handle.job_id: job for handle, (_, job) in zip(submitted, todo, strict=True)}
    with _Progress(plan, len(todo)) as progress:
        for handle in submitit.helpers.as_completed(submitted):
            failure = handle.exception()  # killed, or out of time once too often
            outcome = handle.result() if failure is None else error_line(failure)
            progress.finish(names[handle.job_id], outcome, handle.paths.stderr)
    return progress.failures


def slurm_parameters(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The SLURM launcher's settings under submitit's names."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    launcher = [override for override in overrides if override.startswith("hydra.launcher.")]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = hydra_compose(
            "train",
            overrides=["hydra/launcher=slurm", *launcher],
            return_hydra_config=True,
        )
    node = config.hydra.launcher
    common = set(OmegaConf.structured(BaseQueueConf))
    return {
        (str(key) if key in common else f"slurm_{key}"): (
            OmegaConf.to_container(node[key]) if OmegaConf.is_config(node[key]) else node[key]
        )
        for key in node
        if key not in ("_target_", "submitit_folder") and node[key] is not None
    }


class _Resumable(submitit.helpers.Checkpointable):
    """A run that submitit may requeue: it resumes from its own checkpoint."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __call__(self, config: DictConfig) -> str | None:
        try:
            self.run(config)
        except Exception as error:
            print_error(error)
            return error_line(error)
        return None


class _Progress:
    """A progress bar over the runs, and the failures so far."""

    def __init__(self, plan: Plan, total: int) -> None:
        # Without smoothing, as several runs end at about the same time and then none for a while.
        self._bar = tqdm(
            total=total, desc=plan.table.id, unit="run", dynamic_ncols=True, smoothing=0
        )
        self.failures: list[str] = []

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def finish(self, job: Job, error: str | None, log: Path) -> None:
        if error is not None:
            self.failures.append(f"{job.row}, seed {job.seed}: {error}")
            self._bar.write(f"failed: {self.failures[-1]} (see {log})")
        self._bar.update()
