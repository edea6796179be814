"""A table task by task: on which of the tasks behind a mean a row is better or worse."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from beyond_ce.reporting.numbers import TableNumbers
from beyond_ce.reporting.statistics import NAN, contrast
from beyond_ce.reporting.tables import Reports, Table

COLUMNS = ("row", "split", "task", "metric", "mean", "std", "ci_low", "ci_high", "n_seeds")


def break_down(
    table: Table, reports: Reports, first: Collection[int] | None = None
) -> pd.DataFrame:
    """`table.breakdown` for each task of each split, columns `COLUMNS`.

    The tasks come from the reports, whose metrics are named `<split>/<metric>@<task>`.

    Args:
        first: the seeds of the first stage (see `statistics.summarize`); None for all.
    """
    numbers = TableNumbers(table, reports)
    names = sorted({name for report in reports.values() for name in report["metrics"]})
    lines = []
    for row in table.rows:
        for split in (split for part in table.parts for split in part.splits):
            for metric in table.breakdown:
                prefix = f"{split}/{metric}@"
                for name in (name for name in names if name.startswith(prefix)):
                    by_seed = {row.label: numbers.by_seed(row.label, name)}
                    summary = contrast(by_seed, {row.label: 1.0}, first)
                    key = (row.label, split, name.removeprefix(prefix), metric)
                    spread = (summary.std, summary.low, summary.high, summary.n or NAN)
                    lines.append((*key, summary.mean, *spread))
    return pd.DataFrame(lines, columns=list(COLUMNS))
