"""A paper's table as rows to run and metrics to read: its definition, its runs, their reports.

`conf/table/<id>.yaml` -> `Table` -> one `Job` per row, experiment and seed -> report.json of each
finished run; `numbers` makes the table of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from beyond_ce.errors import UsageError, one_line
from beyond_ce.reporting.paper import PAPER_DIR
from beyond_ce.reporting.scales import Scaled, ScaledPart, ScaledRow, runs_at, table_at, with_rows
from beyond_ce.runs.store import is_done, read_report


@dataclass
class Row(ScaledRow):
    """One line of the table: a training recipe, run once per seed.

    Attributes:
        overrides: Hydra overrides on top of the table's experiment; null for a row that is not run
            here and shows only the paper's numbers.
        paper: column -> value, the key of this row in the paper's csv.
        overrides_at: scale -> overrides that follow them at this scale only: another model, say.
        overrides_for: experiment, or experiment/scale -> overrides that follow the others in this
            experiment only, or in it at this scale only.
        scales: the scales at which the row is run; null for all. At the others it shows only the
            paper's numbers.
        variant: read `<split>/<metric>@<variant>` where the reports have it. Rows with the same
            overrides are one run; their variants pick different numbers from it.
        without: metrics of its run that say nothing about this row.
    """

    label: str
    overrides: list[str] | None = None
    paper: dict[str, Any] = field(default_factory=dict)
    overrides_at: dict[str, list[str]] = field(default_factory=dict)
    overrides_for: dict[str, list[str]] = field(default_factory=dict)
    scales: list[str] | None = None
    variant: str | None = None
    without: list[str] = field(default_factory=list)


@dataclass
class Column(Scaled):
    """One metric of report.json, read as `<split>/<metric>` for every split of the table.

    Attributes:
        format: format spec of the printed numbers.
        better: "higher" or "lower"; null for a metric that is described but not compared.
        paper: the metric's column in the paper's csv, or its name in a csv with columns
            metric and value, see `Paper.text`; null where the paper has none.
        times: what the reports' numbers are multiplied by, such as 100 where the paper has percent.
    """

    metric: str
    name: str
    format: str = ".3f"
    better: str | None = None
    paper: str | None = None
    times: float = 1.0


@dataclass
class Contrast:
    """A linear combination of rows, formed within each seed.

    Attributes:
        share_of: label of another contrast; the ratio of the two means is reported as well.
    """

    label: str
    weights: dict[str, float]
    share_of: str | None = None


@dataclass(kw_only=True)
class Part(ScaledPart):
    """An experiment and the metrics that are read from the reports of its runs.

    Attributes:
        name: goes into the headings of its splits.
        columns: the metrics of the paper's table.
        checks: metrics that the paper leaves out, in a table of their own.
    """

    experiment: str
    splits: list[str]
    columns: list[Column]
    checks: list[Column] = field(default_factory=list)
    name: str | None = None

    @property
    def metrics(self) -> list[Column]:
        return [*self.columns, *self.checks]


@dataclass(kw_only=True)
class Table(Part):
    """The content of `conf/table/<id>.yaml`: which rows to run and which metrics to read.

    Attributes:
        source: where in the paper the table is.
        paper: the paper's csv under results/paper; null where the paper has no such numbers.
        baseline: label of the row that the others are compared with, seed by seed.
        seeds: scale -> seeds. Seeds beyond them are a second stage, see `statistics.summarize`.
        notes: scale -> one line on what differs from the paper there.
        note: what differs at every scale; it follows the scale's own note.
        also: further experiments, run with the same rows and seeds.
        breakdown: metrics that are written for each task of a split as well.
        measure: scale -> what to instantiate and call with the rows' configs and the seeds, for a
            table that is measured instead of trained; see `measurement.measure`.
        alone: score the runs one at a time, because their scores are times.
    """

    id: str
    title: str
    source: str
    seeds: dict[str, list[int]]
    rows: list[Row]
    paper: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    note: str | None = None
    baseline: str | None = None
    contrasts: list[Contrast] = field(default_factory=list)
    also: list[Part] = field(default_factory=list)
    breakdown: list[str] = field(default_factory=list)
    measure: dict[str, dict[str, Any]] = field(default_factory=dict)
    alone: bool = False

    @property
    def parts(self) -> list[Part]:
        return [self, *self.also]

    def differs(self, scale: str) -> str:
        """One line on what differs from the paper at this scale; empty where nothing is said."""
        return "; ".join(filter(None, (self.notes.get(scale), self.note)))

    def at(self, scale: str) -> Table:
        """The table at one scale: rows that do not run there keep only the paper's numbers."""
        at = table_at(self, scale)
        rows = [r if runs_at(r, scale) else replace(r, overrides=None) for r in at.rows]
        return with_rows(at, [row for row in rows if row.overrides is not None or row.paper])


@dataclass(frozen=True)
class Job:
    """One run of a table: its row, its seed, and the overrides that compose its config."""

    row: str
    seed: int
    overrides: tuple[str, ...]


Reports = Mapping[Job, dict[str, Any]]  # report.json of each run that has one


def load_table(path: Path) -> Table:
    """Reads a table's YAML and refuses, in one line, what cannot be run or read."""
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise UsageError(f"there is no table '{path.stem}'; known: {known}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Table), OmegaConf.load(path))
        table = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, YAMLError) as error:
        raise UsageError(f"{path}: {one_line(error)}") from error
    assert isinstance(table, Table)
    labels = [row.label for row in table.rows]
    named_rows = [row for c in table.contrasts for row in c.weights]
    named_rows += [table.baseline] if table.baseline else []
    named_contrasts = [c.share_of for c in table.contrasts if c.share_of]
    experiments = [part.experiment for part in table.parts]
    experiments += [f"{name}/{scale}" for name in experiments for scale in table.seeds]
    named_experiments = {name for row in table.rows for name in row.overrides_for}
    named_scales = {name for row in table.rows for name in row.overrides_at}
    with_key = [row.label for row in table.rows if row.paper]
    with_key += [column.name for part in table.parts for column in part.metrics if column.paper]
    metrics = {column.metric for part in table.parts for column in part.metrics}
    without = {name for row in table.rows for name in row.without}
    splits = [split for part in table.parts for split in part.splits]
    csv = PAPER_DIR / table.paper if table.paper else None
    problems = [
        (table.id != path.stem, f"id '{table.id}' is not the file's name"),
        (not any(row.overrides is not None for row in table.rows), "no rows to run"),
        (len(set(labels)) < len(labels), "two rows have the same label"),
        (
            not set(named_rows) <= set(labels),
            f"unknown rows {sorted(set(named_rows) - set(labels))}",
        ),
        (
            not set(named_contrasts) <= {c.label for c in table.contrasts},
            "share_of must be the label of a contrast",
        ),
        (
            not named_experiments <= set(experiments),
            f"overrides_for: unknown experiments {sorted(named_experiments - set(experiments))}",
        ),
        (
            not named_scales <= set(table.seeds),
            f"overrides_at: scales without seeds {sorted(named_scales - set(table.seeds))}",
        ),
        (
            not set(table.notes) <= set(table.seeds),
            f"notes: scales without seeds {sorted(set(table.notes) - set(table.seeds))}",
        ),
        (without - metrics, f"without: no columns of {sorted(without - metrics)}"),
        (len(set(splits)) < len(splits), "two experiments have a split of the same name"),
        (
            table.measure and set(table.measure) != set(table.seeds),
            "measure must have the same scales as seeds",
        ),
        (csv is not None and not csv.is_file(), f"paper: there is no {csv}"),
        (
            csv is None and with_key,
            f"{with_key[:1]} reads the paper's numbers: name their csv with paper:",
        ),
    ]
    for wrong, problem in problems:
        if wrong:
            raise UsageError(f"{path}: {problem}")
    return table


def jobs(
    table: Table, scale: str, seeds: Sequence[int] | None = None, overrides: Sequence[str] = ()
) -> list[Job]:
    """One job per row, experiment and seed; `overrides` come last and win over the row's."""
    if not table.seeds.get(scale):
        raise UsageError(
            f"{table.id} has no seeds at scale '{scale}'; it has scales: {', '.join(table.seeds)}"
        )
    return [
        Job(
            row.label,
            seed,
            (
                f"experiment={part.experiment}/{scale}",
                *row.overrides,
                *row.overrides_at.get(scale, ()),
                *row.overrides_for.get(part.experiment, ()),
                *row.overrides_for.get(f"{part.experiment}/{scale}", ()),
                *overrides,
            ),
        )
        for part in table.at(scale).parts
        for row in table.at(scale).rows
        if row.overrides is not None
        for seed in (table.seeds[scale] if seeds is None else seeds)
    ]


def read_reports(jobs: Sequence[Job], folder_of: Callable[[Job], Path]) -> Reports:
    """The report.json of every job whose folder has one.

    The DONE file is not needed: the kept reports come without it, and a report is written only
    when its run is over.

    Raises:
        RunError: a report is damaged or of another run, or a finished run has none. Its row would
            otherwise be missing without a word.
    """
    folders = {job: folder_of(job) for job in jobs}
    return {
        job: read_report(folder)
        for job, folder in folders.items()
        if (folder / "report.json").exists() or is_done(folder)
    }
