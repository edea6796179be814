"""A table task by task: on which of the tasks behind a mean a row is better or worse."""

from __future__ import annotations

import pandas as pd

from beyond_ce.reporting.statistics import NAN, summarize
from beyond_ce.reporting.tables import Reports, Table, TableNumbers

COLUMNS = ("row", "split", "task", "metric", "mean", "std", "ci_low", "ci_high", "n_seeds")


def break_down(table: Table, reports: Reports) -> pd.DataFrame:
    """`table.breakdown` for each task of each split, columns `COLUMNS`.

    The tasks come from the reports, whose metrics are named `<split>/<metric>@<task>`.
    """
    numbers = TableNumbers(table, reports)
    names = sorted({name for report in reports.values() for name in report["metrics"]})
    lines = []
    for row in table.rows:
        for split in (split for part in table.parts for split in part.splits):
            for metric in table.breakdown:
                prefix = f"{split}/{metric}@"
                for name in (name for name in names if name.startswith(prefix)):
                    summary = summarize(list(numbers.by_seed(row.label, name).values()))
                    key = (row.label, split, name.removeprefix(prefix), metric)
                    spread = (summary.std, summary.low, summary.high, summary.n or NAN)
                    lines.append((*key, summary.mean, *spread))
    return pd.DataFrame(lines, columns=list(COLUMNS))
