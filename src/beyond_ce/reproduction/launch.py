"""Runs a table's missing runs, in processes on this machine or as a SLURM job array."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from beyond_ce.configuration import CONF_DIR
from beyond_ce.errors import RunError
from beyond_ce.processes.slurm import failure, parameters_of, submit, wait
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
from beyond_ce.runs.identity import run_folder
from beyond_ce.runs.start import lacks_source
from beyond_ce.runs.state import failure_of, job_of, note_failed, note_queued

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
        if lacks_source(config):
            continue  # its job is queued behind that of its source, and prepares for itself
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
    config = next(iter(plan.configs.values()))
    if gpus := _gpus(config):
        most = max(_devices(config) for config in plan.configs.values())
        return max(1, len(gpus) // most)
    return max(1, _cores() // (config.trainer.num_threads or _cores()))


def train_beforehand(plan: Plan, train: Run, max_jobs: int | None = None) -> None:
    """Trains the missing runs of a table that measures time, as many at a time as there are cores
    or GPUs, as their training is not timed.

    `run_local` then scores one after the other, and tries again what failed here.
    """
    missing = {}
    for folder, job in plan.missing().items():
        config = plan.configs[job]
        if "baseline" not in config and config.trainer.max_steps and _devices(config) == 1:
            missing[folder] = job
    if len(missing) < 2:
        return
    gpus = _gpus(plan.configs[next(iter(missing.values()))])
    jobs = min(max_jobs or len(gpus) or _cores(), len(missing))
    _run_in_processes(plan, missing, train, jobs, max(1, _cores() // jobs), "training")


def run_local(plan: Plan, run: Run, max_jobs: int) -> list[str]:
    """Runs what is missing in `max_jobs` processes; returns one line per failed run.

    Each run prints into `output.log` of its folder. On a machine with several GPUs, each process
    has one of them. A run on several devices is a command of its own, as Fabric starts its other
    processes by repeating the command.
    """
    return _run_in_processes(plan, plan.missing(), run, max_jobs)


def _run_in_processes(
    plan: Plan,
    missing: Mapping[Path, Job],
    run: Run,
    max_jobs: int,
    threads: int | None = None,
    doing: str = "",
) -> list[str]:
    """Calls `run` for the missing runs.

    Args:
        threads: of each process, on a CPU; None for the table's own number.
        doing: what happens to the runs, for the progress bar.
    """
    tasks, gpus = [], []
    for folder, job in missing.items():
        config = plan.configs[job].copy()
        config.trainer.progress = False
        if threads is not None:
            config.trainer.num_threads = threads
        log = folder / "output.log"
        if _devices(config) > 1:
            tasks.append(Task(run_command, _command(job), log))
        else:
            tasks.append(Task(run, config, log))
            gpus = _gpus(config)
        note_queued(folder, log)
    if any(task.function is run_command for task in tasks):
        gpus = []  # such a run sees all GPUs
    with _Progress(plan, len(tasks), doing) as progress:

        def finish(task: Task, error: str | None) -> None:
            folder = task.log.parent
            if error is not None:
                note_failed(folder, error)
            progress.finish(missing[folder], error, task.log)

        run_tasks(tasks, max_jobs, finish, gpus=gpus)
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


def _cores() -> int:
    from joblib import cpu_count  # honours CPU quotas of containers, os.cpu_count does not

    return int(cpu_count())


def _gpus(config: DictConfig) -> list[str]:
    """The GPUs that a run of this config may use; none for one on a CPU."""
    import torch

    if config.trainer.accelerator == "cpu" or not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else list(map(str, range(torch.cuda.device_count())))


def run_slurm(
    plans: Sequence[Plan],
    run: Run,
    overrides: Sequence[str] = (),
    detach: bool = False,
    cluster: str = "slurm",
) -> list[str]:
    """Submits what is missing, an array for each plan, and waits; returns one line per failed run.

    Runs that are queued or running already, such as those that were left with `detach`, are waited
    for and not submitted again. Partition, time and so on come from
    conf/hydra/launcher/slurm.yaml and from `hydra.launcher.*` among the overrides. A preempted or
    timed out job requeues itself and resumes.

    Args:
        plans: each of runs that need those of the plans before it, as from `Plan.sources`.
        detach: return as soon as all are submitted.
    """
    parameters = slurm_parameters(overrides)
    handles: dict[str, tuple[Path, Job, submitit.Job[Any]]] = {}
    after: list[str] = []
    for plan in plans:
        ids = []
        for shape, todo in _by_shape(plan).items():
            for folder in list(todo):
                if handle := _still_queued(plan, folder, cluster):
                    handles[handle.job_id] = folder, todo.pop(folder), handle
                    ids.append(handle.job_id)
            if todo:
                submitted = _submit(plan, todo, run, parameters, shape, after, cluster)
                handles |= {handle.job_id: (*named, handle) for named, handle in submitted}
                ids += dict.fromkeys(handle.job_id.split("_")[0] for _, handle in submitted)
        after = ids or after
    if detach or not handles:
        if handles:
            print(f"{len(handles)} runs are queued or running as SLURM jobs {', '.join(handles)}")
        return []
    with _Progress(plans[-1], len(handles)) as progress:

        def finish(handle: submitit.Job[Any]) -> None:
            folder, job, _ = handles[handle.job_id]
            error = failure(handle)
            if error is not None:
                error = failure_of(folder) or error
                note_failed(folder, error)
            progress.finish(job, error, handle.paths.stderr)

        wait([handle for *_, handle in handles.values()], finish, progress.show)
    return progress.failures


def _by_shape(plan: Plan) -> dict[tuple[int, int], dict[Path, Job]]:
    """The missing runs by how many nodes, and devices of a node, they take."""
    found: dict[tuple[int, int], dict[Path, Job]] = {}
    for folder, job in plan.missing().items():
        config = plan.configs[job]
        nodes = 1 if "baseline" in config else config.trainer.get("num_nodes", 1)
        found.setdefault((nodes, _devices(config)), {})[folder] = job
    return found


def _still_queued(plan: Plan, folder: Path, cluster: str) -> submitit.Job[Any] | None:
    """The job that was submitted for a run, unless it has ended."""
    job = job_of(folder)
    if job is None or cluster != "slurm":
        return None
    handle: submitit.Job[Any] = submitit.SlurmJob(plan.results / "slurm" / "%j", job)
    return None if handle.done(force_check=True) else handle


def _submit(
    plan: Plan,
    todo: Mapping[Path, Job],
    run: Run,
    parameters: Mapping[str, Any],
    shape: tuple[int, int],
    after: Sequence[str],
    cluster: str,
) -> list[tuple[tuple[Path, Job], submitit.Job[Any]]]:
    """Submits runs that take the same number of nodes and devices as one array."""
    settings = dict(parameters)
    nodes, devices = shape
    if nodes * devices > 1:  # one process per device, as Fabric wants it
        settings |= {"nodes": nodes, "tasks_per_node": devices}
        settings |= {"gpus_per_node": devices} if settings.get("gpus_per_node") else {}
    arguments = []
    for job in todo.values():
        config = plan.configs[job].copy()
        config.trainer.progress = False
        arguments.append((config,))
    logs = plan.results / "slurm" / "%j"
    submitted = submit(logs, settings, _Resumable(run), arguments, after, cluster)
    for folder, handle in zip(todo, submitted, strict=True):
        note_queued(folder, handle.paths.stderr, handle.job_id)
    return list(zip(todo.items(), submitted, strict=True))


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
    return parameters_of(config.hydra.launcher)


class _Resumable(submitit.helpers.Checkpointable):
    """A run that submitit may requeue: it resumes from its own checkpoint."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __call__(self, config: DictConfig) -> None:
        try:
            self.run(config)
        except Exception as error:
            print_error(error)
            note_failed(run_folder(config), error_line(error))
            raise RunError(error_line(error)) from None


class _Progress:
    """A progress bar over the runs, and the failures so far."""

    def __init__(self, plan: Plan, total: int, doing: str = "") -> None:
        # Without smoothing, as several runs end at about the same time and then none for a while.
        name = f"{plan.table.id}, {doing}" if doing else plan.table.id
        self._bar = tqdm(total=total, desc=name, unit="run", dynamic_ncols=True, smoothing=0)
        self.failures: list[str] = []

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, states: str) -> None:
        """Say what the runs do that have not ended."""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        self._bar.set_postfix_str(states + failed)

    def finish(self, job: Job, error: str | None, log: Path) -> None:
        if error is not None:
            self.failures.append(f"{job.row}, seed {job.seed}: {error}")
            self._bar.write(f"failed: {self.failures[-1]} (see {log})")
        self._bar.update()
