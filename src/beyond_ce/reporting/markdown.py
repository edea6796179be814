"""A table as markdown: the paper's layout, ours beside the paper's, and its provenance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import pandas as pd

from beyond_ce.errors import RunError
from beyond_ce.reporting.numbers import MINUS_BASELINE, SHARE, Cell, TableNumbers, cells
from beyond_ce.reporting.paper import SPLIT_NAMES, Paper
from beyond_ce.reporting.power import detectable
from beyond_ce.reporting.statistics import Summary
from beyond_ce.reporting.tables import Column, Job, Part, Reports, Row, Table
from beyond_ce.runs.start import source_overrides
from beyond_ce.storage.reading import is_number

NOTHING = "–"
Cells = Mapping[tuple[str, str], Cell]

_FIELDS: dict[str, Callable[[Any], bool]] = {
    "commit": lambda value: value is None or isinstance(value, str),
    "dirty": lambda value: value is None or isinstance(value, bool),
    "hardware": lambda value: isinstance(value, dict) and {"cpu", "cores"} <= value.keys(),
    **dict.fromkeys(("parameters", "steps", "samples", "wall_clock_s"), is_number),
}
"""What a page says about a run, and what it may be in report.json."""


def to_markdown(
    table: Table,
    frame: pd.DataFrame,
    reports: Reports,
    scale: str,
    command: str,
    expected: int,
    missing: Sequence[Job] = (),
    starts: Iterable[Mapping[str, Any]] = (),
) -> str:
    """The md file of a table.

    Args:
        frame: the numbers, from `numbers.tabulate`.
        expected: how many runs the table has when complete; rows may share one.
        missing: the runs that have no report.
        starts: what the runs start from, as their configs have it; those from random weights have
            none.

    Raises:
        RunError: a report lacks what the page says about its run.
    """
    table = table.at(scale)
    numbers, paper = cells(frame), Paper(table.paper)
    by_seed = TableNumbers(table, reports, table.seeds.get(scale))
    parts = [
        f"# {table.id}: {table.title}",
        f"{table.source}. Scale `{scale}`. Ours is mean ± standard deviation over seeds; "
        f"{NOTHING} is a number that does not exist.",
    ]
    for part in table.parts:
        for split in part.splits:
            parts.append(f"## {heading(part, split)}")
            parts += _section(table, numbers, paper, part, split)
            parts += _power(table, by_seed, part, split)
    if table.breakdown:
        parts.append(f"Task by task: [{table.id}-tasks.csv]({table.id}-tasks.csv).")
    parts.append(
        "## Provenance\n\n" + _provenance(table, reports, scale, command, expected, missing, starts)
    )
    return "\n\n".join(parts) + "\n"


def heading(part: Part, split: str) -> str:
    """A split's heading, after the experiment's name where it has one."""
    title = SPLIT_NAMES.get(split, split).capitalize()
    return f"{part.name}: {title.lower()}" if part.name else title


def _section(table: Table, numbers: Cells, paper: Paper, part: Part, split: str) -> list[str]:
    """One split: the paper's layout, differences, contrasts, and what the paper leaves out."""
    header = ["", *(f for c in part.columns for f in _headings(c))]
    lines = [
        [row.label, *(f for c in part.columns for f in _pair(numbers, paper, row, split, c))]
        for row in table.rows
    ]
    texts = [grid(header, lines)]
    if table.baseline is not None:
        texts.append(_differences(table, numbers, part, split))
    if table.contrasts:
        texts.append(_contrasts(table, numbers, part, split))
    if part.checks:
        header = ["", *(column.name for column in part.checks)]
        lines = [
            [row.label, *(_ours(numbers, row.label, split, c) for c in part.checks)]
            for row in table.rows
            if row.overrides is not None
        ]
        texts.append("Beside the paper's metrics:\n\n" + grid(header, lines))
    return texts


def plus_minus(summary: Summary, spec: str) -> str:
    """`mean ± std`, or as much of it as there is."""
    if math.isnan(summary.mean):
        return NOTHING
    mean = number(summary.mean, spec)
    return mean if math.isnan(summary.std) else f"{mean} ± {number(summary.std, spec)}"


def number(value: float, spec: str) -> str:
    """`value` by `spec`; with an exponent if a runaway answer has made it huge."""
    if abs(value) >= 1e6:
        spec = "+.1e" if spec.startswith("+") else ".1e"
    return f"{value:{spec}}"


def _headings(column: Column) -> list[str]:
    arrow = {"higher": " ↑", "lower": " ↓", None: ""}[column.better]
    ours = f"{column.name}{arrow}"
    return [ours, "paper"] if column.paper else [ours]


def _pair(numbers: Cells, paper: Paper, row: Row, split: str, c: Column) -> list[str]:
    ours = _ours(numbers, row.label, split, c)
    if not c.paper:
        return [ours]
    names = c.paper, f"{c.paper}_std"
    texts = [paper.text(row.paper, split, name) for name in names]
    return [ours, " ± ".join(filter(None, texts)) or NOTHING]


def _ours(numbers: Cells, label: str, split: str, column: Column) -> str:
    return plus_minus(numbers[label, f"{split}/{column.metric}"].ours, column.format)


def _compared(part: Part) -> list[Column]:
    return [column for column in part.metrics if column.better is not None]


def interval(summary: Summary, spec: str) -> str:
    """Mean and 95% interval of a difference, in bold when the interval excludes zero."""
    if math.isnan(summary.mean):
        return NOTHING
    spec = f"+{spec}"
    text = number(summary.mean, spec)
    if summary.low < summary.high:  # not where all seeds agree: that bounds nothing
        text += f" [{number(summary.low, spec)}, {number(summary.high, spec)}]"
    return f"**{text}**" if summary.excludes_zero else text


def _differences(table: Table, numbers: Cells, part: Part, split: str) -> str:
    lines = [
        [
            row.label,
            *(
                interval(numbers[row.label, f"{split}/{c.metric}{MINUS_BASELINE}"].ours, c.format)
                for c in _compared(part)
            ),
        ]
        for row in table.rows
        if row.label != table.baseline and row.overrides is not None
    ]
    return (
        f"Difference to {table.baseline}, paired by seed, with its 95% interval (Student t; bold: "
        "it excludes zero; not corrected for the number of comparisons):\n\n"
        + grid(["", *(f for c in _compared(part) for f in _headings(c)[:1])], lines)
    )


def _contrasts(table: Table, numbers: Cells, part: Part, split: str) -> str:
    lines = []
    for contrast in table.contrasts:
        fields = [contrast.label]
        for column in _compared(part):
            metric = f"{split}/{column.metric}"
            text = interval(numbers[contrast.label, metric].ours, column.format)
            if contrast.share_of is not None:
                share, paper_share = numbers[contrast.label, metric + SHARE]
                text += "" if math.isnan(share.mean) else f", {share.mean:.0%} of the gap"
            paper = numbers[contrast.label, metric].paper
            if not math.isnan(paper):
                text += f" (paper {paper:+.3g}"
                text += f", {paper_share:.0%})" if contrast.share_of is not None else ")"
            fields.append(text)
        lines.append(fields)
    header = ["", *(f for c in _compared(part) for f in _headings(c)[:1])]
    return "Contrasts, formed within each seed, with 95% intervals:\n\n" + grid(header, lines)


def _power(table: Table, by_seed: TableNumbers, part: Part, split: str) -> list[str]:
    """What the seeds can show of each difference and contrast, beside the paper's effect."""
    baseline = table.baseline
    compared = {
        f"{row.label} − {baseline}": {row.label: 1.0, baseline: -1.0}
        for row in table.rows
        if baseline is not None and row.label != baseline and row.overrides is not None
    }
    compared |= {c.label: c.weights for c in table.contrasts}
    lines = []
    for label, weights in compared.items():
        fields = [label]
        for column in _compared(part):
            ours, paper = by_seed.combine(weights, f"{split}/{column.metric}")
            smallest = detectable(ours)
            text = NOTHING if math.isnan(smallest) else number(smallest, column.format)
            fields.append(text if math.isnan(paper) else f"{text} (paper {paper:+.3g})")
        lines.append(fields)
    if all(text.startswith(NOTHING) for fields in lines for text in fields[1:]):
        return []
    header = ["", *(column.name for column in _compared(part))]
    return [
        "Detectable with these seeds: the true difference, in either direction, that they would "
        "find with 80% probability (paired t test, the spread seen here), beside the paper's:\n\n"
        + grid(header, lines)
    ]


def _provenance(
    table: Table,
    reports: Reports,
    scale: str,
    command: str,
    expected: int,
    missing: Sequence[Job],
    starts: Iterable[Mapping[str, Any]],
) -> str:
    runs = list({report["run"]: report for report in reports.values()}.values())
    for run in runs:
        _check_fields(run)

    def distinct(values: Iterable[str]) -> str:
        return "; ".join(dict.fromkeys(values)) or NOTHING

    commits = [
        f"{(r['commit'] or 'unknown')[:12]}{' with local changes' if r['dirty'] else ''}"
        for r in runs
    ]
    machines = [
        f"{r['hardware'].get('gpu') or r['hardware']['cpu']}, {r['hardware']['cores']} cores"
        for r in runs
    ]
    sizes = [
        f"{_millions(r['parameters'])} M parameters, {r['steps']:,} steps, {r['samples']:,} samples"
        if _has_model(r)
        else f"no model, {r['samples']:,} samples"
        for r in sorted(runs, key=_size)
    ]
    minutes = sum(r["wall_clock_s"] for r in runs) / 60
    incomplete = f" **{expected - len(runs)} of {expected} missing.**"
    lines = [
        f"- Differs from the paper: {table.differs(scale) or NOTHING}",
        f"- Runs: {len(runs)}, seeds {_seeds(table, reports, scale)}; "
        f"each: {distinct(sizes)}.{incomplete if len(runs) < expected else ''}",
        *_missing_line(missing),
        *_undefined_line(table, reports),
        *_starts_line(starts),
        f"- Command: `{command}`",
        f"- Commit: {distinct(sorted(commits))}",
        f"- Hardware: {distinct(sorted(machines))}",
        f"- Minutes: {minutes:.1f}, summed over the runs",
    ]
    return "\n".join(lines)


def _seeds(table: Table, reports: Reports, scale: str) -> str:
    """The seeds of the reports; those after the table's own apart, as a second stage."""
    seeds = sorted({job.seed for job in reports})
    own = [seed for seed in seeds if seed in table.seeds.get(scale, seeds)]
    later = [seed for seed in seeds if seed not in own]
    if len(own) < 2 or not later:
        return str(seeds)
    return f"{own} and, as a second stage of those rows that have them, {later}"


def _missing_line(missing: Sequence[Job]) -> list[str]:
    seeds: dict[str, list[int]] = {}
    for job in missing:
        seeds.setdefault(job.row, []).append(job.seed)
    runs = [f"{row} ({_of_seeds(numbers)})" for row, numbers in seeds.items()]
    return [f"- Missing: {'; '.join(runs)}"] if runs else []


def _of_seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _undefined_line(table: Table, reports: Reports) -> list[str]:
    """Metrics that some seeds of a row have and others lack, such as a correlation of a constant:
    their mean is over fewer seeds than the page says."""
    numbers = TableNumbers(table, reports)
    lacking = []
    for part, split in [(each, name) for each in table.parts for name in each.splits]:
        for row in table.rows:
            by_seed = {
                c.name: numbers.by_seed(row.label, f"{split}/{c.metric}") for c in part.metrics
            }
            seeds = set().union(*by_seed.values())
            for name, values in by_seed.items():
                if values and (rest := sorted(seeds - values.keys())):
                    where = f"{heading(part, split)}, {row.label}, {name}"
                    lacking.append(f"{where} ({_of_seeds(rest)})")
    return [f"- Undefined, and not in the means: {'; '.join(lacking)}"] if lacking else []


def _starts_line(starts: Iterable[Mapping[str, Any]]) -> list[str]:
    """The runs whose weights these start from; nothing if all start from random ones."""
    seeds: dict[str, set[int]] = {}
    for start in starts:
        name = f"start.path={PurePath(start['path']).name}" if "path" in start else ""
        name = name or " ".join(source_overrides(start))
        seeds.setdefault(f"`{name}`", set()).add(start["source"]["seed"])
    named = [f"{name}, seeds {sorted(of)}" for name, of in seeds.items()]
    return [f"- Starts from: {'; '.join(named)}"] if named else []


def _check_fields(report: Mapping[str, Any]) -> None:
    """Raises RunError if the report lacks what `_provenance` reads."""
    for key, fits in _FIELDS.items():
        if key not in report or not fits(report[key]):
            raise RunError(
                f"the report of run {report['run']} is damaged (its {key} is missing or makes no "
                "sense): delete the run's folder and run again"
            )


def _has_model(report: dict[str, Any]) -> bool:
    """Whether a model was trained, or evaluated as it was: then it has a validation loss."""
    return bool(report["steps"]) or "validation/loss" in report["metrics"]


def _size(report: dict[str, Any]) -> tuple[Any, ...]:
    """Sorts reports by the size of what was trained; those without a model come last."""
    return not _has_model(report), report["parameters"], report["steps"], report["samples"]


def _millions(parameters: int) -> str:
    """Millions of parameters: two digits, or all digits of a larger whole number."""
    millions = parameters / 1e6
    return f"{millions:.2g}" if millions < 99.5 else f"{millions:,.0f}"


def grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A markdown table with aligned columns: labels to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]
    widths = [max(width, 3) for width in widths]

    def fill(line: Sequence[str]) -> str:
        first, *rest = (
            f"{text:<{width}}" if i == 0 else f"{text:>{width}}"
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([fill(header), "| " + " | ".join(rule) + " |", *map(fill, lines)])
