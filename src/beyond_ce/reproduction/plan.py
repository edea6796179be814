"""A table at a scale as a plan: the config of every run, and which of them are missing."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from beyond_ce.configuration import CONF_DIR, compose
from beyond_ce.errors import UsageError
from beyond_ce.reporting.scales import table_at
from beyond_ce.reporting.tables import Job, Reports, Table, jobs, load_table, read_reports
from beyond_ce.runs.identity import kept_folder_of, run_folder
from beyond_ce.runs.inputs import Memo, check_same_inputs, is_finished
from beyond_ce.runs.start import at_seed, lacks_source, source_overrides
from beyond_ce.runs.store import is_done

PAPERS = ("ntl", "mtp")
AUTO = "auto"


@dataclass(frozen=True)
class Plan:
    """A table at one scale with the config of every run.

    Attributes:
        own_seeds: the seeds are those of the table, and none that the user asked for.
    """

    table: Table
    scale: str
    configs: Mapping[Job, DictConfig]
    command: str
    own_seeds: bool = False
    _memo: Memo = field(default_factory=dict, repr=False, compare=False)
    _folders: dict[Job, Path] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def results(self) -> Path:
        return Path(next(iter(self.configs.values())).results_dir)

    def folder(self, job: Job) -> Path:
        if job not in self._folders:  # a hash takes some milliseconds, and is asked for often
            self._folders[job] = run_folder(self.configs[job])
        return self._folders[job]

    def report_folder(self, job: Job) -> Path:
        """Where to read a job's report and predictions: its run's folder, if it has ended here,
        or else among the kept ones."""
        own = self.folder(job)
        ended = (own / "report.json").exists() or is_done(own)
        return own if ended else kept_folder_of(own)

    def any_done(self) -> bool:
        return any(self.is_finished(job) for job in self.configs)

    def is_finished(self, job: Job) -> bool:
        """Whether the job's run is complete, see `inputs.is_finished`."""
        return is_finished(self.configs[job], self._memo)

    def reports(self, jobs: Sequence[Job]) -> Reports:
        """The reports of these jobs that there are.

        Raises:
            UsageError: with the same settings, some read other data or weights than others.
        """
        reports = read_reports(jobs, self.report_folder)
        check_same_inputs(
            (
                f"{self.table.id}, {job.row}, seed {job.seed} ({self.folder(job).name})",
                self.configs[job],
                report,
            )
            for job, report in reports.items()
        )
        return reports

    def missing(self) -> dict[Path, Job]:
        """Run folder -> job of every run that is not done; rows that share a run count once."""
        folders: dict[Path, Job] = {}
        for job in self.configs:
            folders.setdefault(self.folder(job), job)
        return {folder: job for folder, job in folders.items() if not self.is_finished(job)}

    def sources(self) -> list[Plan]:
        """Plans of the runs that missing ones start from and that must be made first, in order.

        Each has only runs that need nothing beyond the plans before it.
        """
        configs: dict[Job, DictConfig] = {}
        for job in self.missing().values():
            config = self.configs[job]
            if lacks_source(config):
                start = config.start
                name = " ".join(("start", *source_overrides(start)))
                overrides = tuple(source_overrides(start, places=True))
                configs[Job(name, start.source.seed, overrides)] = start.source
        if not configs:
            return []
        plan = replace(
            self, table=replace(self.table, id=f"{self.table.id}, starts"), configs=configs
        )
        return [*plan.sources(), plan]


def argument_parser(description: str | None, needs_names: bool = True) -> argparse.ArgumentParser:
    """The arguments that name tables and their runs; read them with `plans`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="+" if needs_names else "*",
        metavar="table | key=value",
        help="table ids (ntl-2), bare numbers for both papers (2), Hydra overrides for every run",
    )
    parser.add_argument("--scale", default="cpu", help="smoke, cpu (default), gpu or paper")
    parser.add_argument(
        "--seeds",
        metavar="0,1,..",
        help="comma-separated, or auto (see above); default: the table's seeds at this scale",
    )
    return parser


def plans(args: argparse.Namespace) -> list[Plan]:
    """The plans of the tables named in `args`; prints which table of a bare number is unknown."""
    try:
        given = None if args.seeds == AUTO else args.seeds
        seeds = [int(seed) for seed in given.split(",")] if given else None
    except ValueError as error:
        raise UsageError(
            f"--seeds {args.seeds}: give integers, for example 0,1,2, or {AUTO}"
        ) from error
    overrides = [name for name in args.names if "=" in name]
    ids: list[str] = []
    for name in args.names:
        if name not in overrides:
            known, unknown = table_ids(name)
            ids += [table_id for table_id in known if table_id not in ids]
            for table_id in unknown:
                print(f"there is no table {table_id}: continuing with {', '.join(known)}")
    if not ids:
        raise UsageError("name a table, for example ntl-2")
    return [plan(table_id, args.scale, seeds, overrides) for table_id in ids]


def table_ids(name: str) -> tuple[list[str], list[str]]:
    """Ids of the tables that `name` stands for, known and unknown; a bare number means both papers.

    Raises:
        UsageError: there is no such table in any paper.
    """
    ids = [f"{paper}-{name}" for paper in PAPERS] if name.isdigit() else [name]
    known = sorted(path.stem for path in (CONF_DIR / "table").glob("*.yaml"))
    matches = [table_id for table_id in ids if table_id in known]
    if not matches:
        raise UsageError(f"there is no table '{name}'; known: {', '.join(known)}")
    return matches, [table_id for table_id in ids if table_id not in matches]


def tables_at(scale: str) -> list[str]:
    """Ids of the tables that there are at a scale.

    Raises:
        UsageError: there is none, as for a scale that does not exist.
    """
    paths = sorted((CONF_DIR / "table").glob("*.yaml"))
    ids = [path.stem for path in paths if scale in load_table(path).seeds]
    if not ids:
        raise UsageError(f"--scale {scale}: no table has it; give smoke, cpu, gpu or paper")
    return ids


def plan(
    table_id: str, scale: str, seeds: Sequence[int] | None = None, overrides: Sequence[str] = ()
) -> Plan:
    """Composes the config of every row and seed, so that a wrong one fails before any run."""
    table = table_at(load_table(CONF_DIR / "table" / f"{table_id}.yaml"), scale)
    fixed = [o for o in overrides if o.split("=")[0].lstrip("+") in ("seed", "scale", "experiment")]
    if fixed:
        # With seed=3 for every seed, one run would look like several that agree.
        raise UsageError(f"{fixed[0]}: a table sets this itself, see --seeds and --scale")
    todo = jobs(table, scale, seeds, [o for o in overrides if not o.startswith("hydra")])
    # Paths change no number and differ between machines, so the printed command leaves them out.
    printed = [o for o in overrides if o.split("=")[0] not in ("results_dir", "cache_dir")]
    arguments = [f"--seeds {','.join(map(str, seeds))}"] if seeds is not None else []
    arguments += [shlex.quote(override) for override in printed]
    command = f"make reproduce-table-{table_id} SCALE={scale}"
    if arguments:
        command += f' ARGS="{" ".join(arguments)}"'
    # Composing takes a fraction of a second: once per row, not per seed.
    rows = {overrides: compose(overrides) for overrides in dict.fromkeys(j.overrides for j in todo)}
    if table.measure:
        for config in rows.values():  # so that its hash differs from that of a training run
            OmegaConf.update(config, "measure", table.measure[scale], force_add=True)
    configs = {}
    for job in todo:
        configs[job] = at_seed(rows[job.overrides], job.seed)
    return Plan(table, scale, configs, command, own_seeds=seeds is None)
