"""A table's numbers: a long frame of its reports, one line per row and metric -> csv, md, LaTeX."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from beyond_ce.errors import UsageError
from beyond_ce.reporting.paper import Paper
from beyond_ce.reporting.statistics import NAN, Summary, contrast
from beyond_ce.reporting.tables import Job, Reports, Table

CSV_COLUMNS = ("row", "metric", "mean", "std", "ci_low", "ci_high", "n_seeds", "paper")
MINUS_BASELINE = "_minus_baseline"
SHARE = "_share"


def tabulate(table: Table, reports: Reports, first: Collection[int] | None = None) -> pd.DataFrame:
    """The table's numbers, one line per row and metric, columns `CSV_COLUMNS`, missing as NaN.

    The rows come first, then each row's difference to the baseline (metric
    `<split>/<metric>_minus_baseline`), then the contrasts; both are paired by seed. Their `paper`
    is the same combination of the paper's means.

    Args:
        first: the seeds of the first stage (see `statistics.summarize`); None for all.
    """
    numbers = TableNumbers(table, reports, first)
    lines: list[dict[str, Any]] = []

    def add(row: str, weights: Mapping[str, float], suffix: str = "", share_of: str = "") -> None:
        for metric in numbers.metrics:
            summary, paper = numbers.combine(weights, metric)
            lines.append(_line(row, metric + suffix, summary, paper))
            if share_of:
                total, paper_total = numbers.combine(contrasts[share_of], metric)
                share, paper = _share(summary, total), paper / paper_total
                lines.append(_line(row, f"{metric}{SHARE}", share, paper))

    contrasts = {c.label: c.weights for c in table.contrasts}
    for row in table.rows:
        add(row.label, {row.label: 1.0})
    for row in table.rows:
        if table.baseline is not None and row.label != table.baseline and row.overrides is not None:
            add(row.label, {row.label: 1.0, table.baseline: -1.0}, suffix=MINUS_BASELINE)
    for c in table.contrasts:
        add(c.label, c.weights, share_of=c.share_of or "")
    return pd.DataFrame(lines, columns=list(CSV_COLUMNS))


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes a frame: six significant digits, n_seeds as integers, missing empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    printed = frame.assign(n_seeds=frame["n_seeds"].astype("Int64"))
    printed.to_csv(path, index=False, float_format="%.6g", lineterminator="\n", encoding="utf-8")


class Cell(NamedTuple):
    """One line of the frame: ours and the paper's."""

    ours: Summary
    paper: float


def cells(frame: pd.DataFrame) -> dict[tuple[str, str], Cell]:
    """The frame of `tabulate` as (row, metric) -> numbers."""
    return {
        (line["row"], line["metric"]): Cell(
            Summary(
                line["mean"],
                line["std"],
                line["ci_low"],
                line["ci_high"],
                int(line["n_seeds"]) if line["n_seeds"] == line["n_seeds"] else 0,
            ),
            line["paper"],
        )
        for line in frame.to_dict("records")
    }


class TableNumbers:
    """Linear combinations of a table's rows for one metric: ours by seed, and the paper's.

    Args:
        first: the seeds of the first stage (see `statistics.summarize`); None for all.

    Attributes:
        metrics: `<split>/<metric>` -> split and column, in the order of the table.
    """

    def __init__(
        self, table: Table, reports: Reports, first: Collection[int] | None = None
    ) -> None:
        self.reports = reports
        self.first = first
        self.rows = {row.label: row for row in table.rows}
        self.paper = Paper(table.paper)
        self.metrics = {
            f"{split}/{column.metric}": (split, column)
            for part in table.parts
            for split in part.splits
            for column in part.metrics
        }

    def combine(
        self, weights: Mapping[str, float], metric: str, minus: str | None = None
    ) -> tuple[Summary, float]:
        """sum_row weight x metric: ours, formed within each seed, and that of the paper's means.

        Args:
            minus: another metric, whose combination is subtracted.
        """
        terms = {(row, metric): weight for row, weight in weights.items()}
        if minus is not None:
            terms |= {(row, minus): -weight for row, weight in weights.items()}
        ours = contrast({term: self.by_seed(*term) for term in terms}, terms, self.first)
        return ours, sum(weight * self._paper_value(*term) for term, weight in terms.items())

    def _paper_value(self, row: str, metric: str) -> float:
        split, column = self.metrics[metric]
        return self.paper.value(self.rows[row].paper, split, column.paper)

    def by_seed(self, row: str, metric: str) -> dict[int, float]:
        """Seed -> value of a row's runs that have this metric as a finite number.

        Raises:
            UsageError: two experiments report it, so it is unclear which one is meant.
        """
        values: dict[int, float] = {}
        for job, value in self._values(row, metric):
            if job.seed in values:
                raise UsageError(f"{row}: two experiments of one table report {metric}")
            values[job.seed] = value
        return values

    def paired_runs(
        self, rows: Iterable[str], metric: str, minus: str | None = None
    ) -> dict[str, int]:
        """Name -> seed of the runs behind `combine`: those of seeds that every row has."""
        terms = [(row, name) for row in rows for name in (metric, minus) if name is not None]
        found = [
            {self.reports[job]["run"]: job.seed for job, _ in self._values(*term)} for term in terms
        ]
        shared = set.intersection(*(set(each.values()) for each in found))
        return {run: seed for each in found for run, seed in each.items() if seed in shared}

    def _values(self, row: str, metric: str) -> Iterator[tuple[Job, float]]:
        if metric.partition("/")[2] in self.rows[row].without:
            return
        variant = f"{metric}@{self.rows[row].variant}"
        times = self.metrics[metric][1].times if metric in self.metrics else 1.0
        for job, report in self.reports.items():
            value = report["metrics"].get(variant, report["metrics"].get(metric))
            if job.row == row and value is not None and math.isfinite(value):
                yield job, times * value


def _share(part: Summary, whole: Summary) -> Summary:
    """Ratio of two means; empty if the whole may be zero, as a share of it would say nothing."""
    known = whole.excludes_zero and part.n
    return Summary(part.mean / whole.mean if known else NAN, NAN, NAN, NAN, part.n if known else 0)


def _line(row: str, metric: str, summary: Summary, paper: float) -> dict[str, Any]:
    values = (summary.mean, summary.std, summary.low, summary.high, summary.n or NAN, paper)
    return dict(zip(CSV_COLUMNS, (row, metric, *values), strict=True))
