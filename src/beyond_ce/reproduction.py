"""From a table's id to its runs and its files: what is missing, run here or on SLURM, written."""

from __future__ import annotations

import argparse
import shlex
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from beyond_ce.configuration import CONF_DIR, compose, run_folder
from beyond_ce.errors import UsageError
from beyond_ce.reporting.breakdown import break_down
from beyond_ce.reporting.claims import judge, ledger, load_claims
from beyond_ce.reporting.latex import to_latex
from beyond_ce.reporting.markdown import to_markdown
from beyond_ce.reporting.run_store import is_done, write_atomically
from beyond_ce.reporting.tables import (
    Job,
    Reports,
    Table,
    jobs,
    load_table,
    read_reports,
    tabulate,
    write_csv,
)
from beyond_ce.workers import Task, error_line, run_tasks

PAPERS = ("ntl", "mtp")
SCALES = ("cpu", "gpu", "paper")  # those whose numbers mean something
Run = Callable[[DictConfig], Any]  # experiment.run, or a stand-in for it in the tests


@dataclass(frozen=True)
class Plan:
    """A table at one scale with the config of every run."""

    table: Table
    scale: str
    configs: Mapping[Job, DictConfig]
    command: str

    @property
    def results(self) -> Path:
        return Path(next(iter(self.configs.values())).results_dir)

    def folder(self, job: Job) -> Path:
        return run_folder(self.configs[job])

    def any_done(self) -> bool:
        return any(is_done(self.folder(job)) for job in self.configs)

    def missing(self) -> dict[Path, Job]:
        """Run folder -> job for what is not done yet; rows that are the same run come once."""
        folders: dict[Path, Job] = {}
        for job in self.configs:
            folders.setdefault(self.folder(job), job)
        return {folder: job for folder, job in folders.items() if not is_done(folder)}


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that name tables and their runs; read them with `plans`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="+",
        metavar="table | key=value",
        help="table ids (ntl-2), bare numbers for both papers (2), Hydra overrides for every run",
    )
    parser.add_argument("--scale", default="cpu", help="smoke, cpu (default), gpu or paper")
    parser.add_argument(
        "--seeds",
        metavar="0,1,..",
        help="comma-separated; default: the table's seeds at this scale",
    )
    return parser


def plans(args: argparse.Namespace) -> list[Plan]:
    """The plans of the tables named in `args`; says which table of a bare number does not exist."""
    try:
        seeds = [int(seed) for seed in args.seeds.split(",")] if args.seeds else None
    except ValueError as error:
        raise UsageError(f"--seeds {args.seeds}: give integers, as 0,1,2") from error
    overrides = [name for name in args.names if "=" in name]
    ids: list[str] = []
    for name in args.names:
        if name not in overrides:
            found, unknown = table_ids(name)
            ids += [each for each in found if each not in ids]
            for each in unknown:
                print(f"there is no table {each}: going on with {', '.join(found)}")
    if not ids:
        raise UsageError("name a table, for example ntl-2")
    return [plan(each, args.scale, seeds, overrides) for each in ids]


def table_ids(name: str) -> tuple[list[str], list[str]]:
    """Ids of the tables that `name` stands for, known and unknown; a bare number means both papers.

    Raises:
        UsageError: there is no such table in any paper.
    """
    ids = [f"{paper}-{name}" for paper in PAPERS] if name.isdigit() else [name]
    known = sorted(path.stem for path in (CONF_DIR / "table").glob("*.yaml"))
    found = [each for each in ids if each in known]
    if not found:
        raise UsageError(f"there is no table '{name}'; known: {', '.join(known)}")
    return found, [each for each in ids if each not in found]


def plan(
    table_id: str, scale: str, seeds: Sequence[int] | None = None, overrides: Sequence[str] = ()
) -> Plan:
    """Composes the config of every row and seed, so that a wrong one fails before any run."""
    table = load_table(CONF_DIR / "table" / f"{table_id}.yaml")
    fixed = [o for o in overrides if o.split("=")[0].lstrip("+") in ("seed", "scale", "experiment")]
    if fixed:
        # seed=3 for every seed would make one run look like several that agree.
        raise UsageError(f"{fixed[0]}: a table sets this itself, see --seeds and --scale")
    todo = jobs(table, scale, seeds, [o for o in overrides if not o.startswith("hydra")])
    # Where the files lie is nobody else's business, and changes no number.
    told = [o for o in overrides if o.split("=")[0] not in ("results_dir", "cache_dir")]
    arguments = [f"--seeds {','.join(map(str, seeds))}"] if seeds is not None else []
    arguments += [shlex.quote(override) for override in told]
    command = f"make reproduce-table-{table_id} SCALE={scale}"
    if arguments:
        command += f' ARGS="{" ".join(arguments)}"'
    # Composing takes a fraction of a second: once per row, not per seed.
    rows = {overrides: compose(overrides) for overrides in dict.fromkeys(j.overrides for j in todo)}
    if table.measure:
        for config in rows.values():  # a measurement is not the training run of the same config
            OmegaConf.update(config, "measure", table.measure[scale], force_add=True)
    configs = {}
    for job in todo:
        configs[job] = rows[job.overrides].copy()
        configs[job].seed = job.seed
    return Plan(table, scale, configs, command)


def prepare_once(plan: Plan, prepare: Run) -> None:
    """Calls `prepare` for each distinct data set and tokenizer among the missing runs.

    Otherwise the first runs, which start together, would all generate the same data.
    """
    seen = []
    for job in plan.missing().values():
        config = plan.configs[job]
        inputs = OmegaConf.to_container(config, resolve=True)
        assert isinstance(inputs, dict)
        inputs = {group: inputs[group] for group in ("dataset", "tokenizer")}
        if inputs not in seen:
            seen.append(inputs)
            prepare(config)


def write(plan: Plan, only_done: bool = False, latex: bool = False) -> dict[str, Path]:
    """Writes the table's files from the reports that exist; returns suffix -> path.

    Args:
        only_done: leave out reports whose run folder lacks DONE: committed reports, say, whose
            runs were to be repeated here and failed.
    """
    usable = [job for job in plan.configs if not only_done or is_done(plan.folder(job))]
    reports = read_reports(usable, plan.folder)
    if not reports:
        raise UsageError(
            f"no finished run of {plan.table.id} at scale {plan.scale}: first `{plan.command}`"
        )
    frame = tabulate(plan.table, reports)
    expected = len({plan.folder(job) for job in plan.configs})
    texts = {"md": to_markdown(plan.table, frame, reports, plan.scale, plan.command, expected)}
    if latex:
        texts["tex"] = to_latex(plan.table, frame)
    stem = plan.results / "tables" / plan.scale / plan.table.id
    paths = {suffix: stem.with_suffix(f".{suffix}") for suffix in ("csv", *texts)}
    try:
        write_csv(frame, paths["csv"])
        if plan.table.breakdown:
            paths["tasks"] = stem.with_name(f"{stem.name}-tasks.csv")
            write_csv(break_down(plan.table, reports), paths["tasks"])
        for suffix, text in texts.items():
            paths[suffix].write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {stem}: {error.strerror}; set results_dir") from error
    return paths


def write_claims(results: Path) -> Path:
    """Judges every claim of conf/claims at every scale that has tables; returns claims.md.

    Scale smoke is left out: its numbers mean nothing.
    """
    tables: dict[str, Table] = {}

    def table_of(table_id: str) -> Table:
        if table_id not in tables:
            tables[table_id] = load_table(CONF_DIR / "table" / f"{table_id}.yaml")
        return tables[table_id]

    files = sorted((CONF_DIR / "claims").glob("*.yaml"))
    claims = [claim for path in files for claim in load_claims(path, table_of)]
    findings = {}
    for scale in SCALES:
        reports = {name: _reports(table, scale, results) for name, table in tables.items()}
        if any(reports.values()):
            findings[scale] = [judge(c, tables[c.table], scale, reports[c.table]) for c in claims]
    path = results / "claims.md"
    write_atomically(path, ledger(claims, tables, findings, results))
    return path


def _reports(table: Table, scale: str, results: Path) -> Reports:
    if scale not in table.seeds or not (results / "tables" / scale / f"{table.id}.csv").is_file():
        return {}
    made = plan(table.id, scale, overrides=[f"results_dir={results}"])
    return read_reports(list(made.configs), made.folder)


def default_jobs(plan: Plan) -> int:
    """Runs at a time: as many as have cores of their own, one where a GPU does the work or where
    they take times."""
    if plan.table.alone:
        return 1
    import torch
    from joblib import cpu_count  # honours CPU quotas of containers, os.cpu_count does not

    config = next(iter(plan.configs.values()))
    if config.trainer.accelerator != "cpu" and torch.cuda.is_available():
        return 1
    threads = config.trainer.num_threads or cpu_count()
    return max(1, cpu_count() // threads)


def run_local(plan: Plan, run: Run, max_jobs: int) -> list[str]:
    """Runs what is missing in `max_jobs` processes; returns one line per failed run.

    Each run prints into `output.log` of its folder.
    """
    missing = plan.missing()
    tasks = []
    for folder, job in missing.items():
        config = plan.configs[job].copy()
        config.trainer.progress = False
        tasks.append(Task(run, config, folder / "output.log"))
    with _Progress(plan, len(tasks)) as progress:
        run_tasks(
            tasks,
            max_jobs,
            on_done=lambda task, error: progress.finish(missing[task.log.parent], error, task.log),
        )
    return progress.failures


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
    first = {k: parameters.pop(k) for k in ("slurm_max_num_timeout",) if k in parameters}
    try:
        executor = submitit.AutoExecutor(plan.results / "slurm" / "%j", cluster=cluster, **first)
    except RuntimeError as error:
        raise UsageError(f"cannot submit to SLURM: {error}; use --launcher local") from error
    executor.update_parameters(**parameters)
    submitted = executor.map_array(_Resumable(run), [plan.configs[job] for _, job in todo])
    names = {handle.job_id: job for handle, (_, job) in zip(submitted, todo, strict=True)}
    with _Progress(plan, len(todo)) as progress:
        for handle in submitit.helpers.as_completed(submitted):
            lost = handle.exception()  # killed, out of time for good
            outcome = handle.result() if lost is None else error_line(lost)
            progress.finish(names[handle.job_id], outcome, handle.paths.stderr)
    return progress.failures


def slurm_parameters(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The SLURM launcher's settings under submitit's names."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    own = [override for override in overrides if override.startswith("hydra.launcher.")]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = hydra_compose(
            "train", overrides=["hydra/launcher=slurm", *own], return_hydra_config=True
        )
    node = config.hydra.launcher
    everywhere = set(OmegaConf.structured(BaseQueueConf))
    return {
        (str(key) if key in everywhere else f"slurm_{key}"): (
            OmegaConf.to_container(node[key]) if OmegaConf.is_config(node[key]) else node[key]
        )
        for key in node
        if key not in ("_target_", "submitit_folder") and node[key] is not None
    }


class _Resumable(submitit.helpers.Checkpointable):
    """A run that submitit may requeue: it goes on from its own checkpoint."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __call__(self, config: DictConfig) -> str | None:
        try:
            self.run(config)
        except Exception as error:
            traceback.print_exc()
            return error_line(error)
        return None


class _Progress:
    """A bar over runs with the time left, and the failures so far."""

    def __init__(self, plan: Plan, total: int) -> None:
        # No smoothing: several runs end at about the same time, and then none for a while.
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
