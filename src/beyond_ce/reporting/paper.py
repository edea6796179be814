"""The papers' numbers: results/paper/<paper>/<table>.csv, looked up, never retyped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from beyond_ce.reporting.statistics import NAN

PAPER_DIR = Path(__file__).resolve().parents[3] / "results" / "paper"
SPLIT_NAMES = {"interpolate": "interpolation", "extrapolate": "extrapolation"}


class Paper:
    """One csv of a paper's numbers.

    A csv with columns metric and value holds one number per line; any other holds one metric per
    column, and perhaps one split per line.

    Args:
        name: the csv under results/paper; null for none: then no number exists.
    """

    def __init__(self, name: str | None) -> None:
        self._frame = (
            pd.DataFrame()
            if name is None
            else pd.read_csv(PAPER_DIR / name, dtype=str, keep_default_na=False)
        )

    def text(self, key: Mapping[str, Any], split: str, column: str | None) -> str:
        """One cell as the paper prints it, "0.10" and not 0.1; empty where it has none.

        Args:
            key: column -> value, which together pick one line.
            column: the metric's name; `{split}` in it stands for "interpolation" and so on, and
                `{loss}`, for example, for that entry of `key`, which then picks no line.
        """
        if column is None or not key:
            return ""
        rest = dict(key)
        for name in key:
            if f"{{{name}}}" in column:
                column = column.replace(f"{{{name}}}", str(rest.pop(name)))
        if "{split}" in column:
            column = column.replace("{split}", SPLIT_NAMES.get(split, split))
        elif "split" in self._frame:
            rest.setdefault("split", split)
        elif rest.pop("split", split) != split:
            return ""
        if "value" in self._frame:
            rest["metric"], column = column, "value"
        if column not in self._frame:
            return ""
        matches = self._frame
        for name, value in rest.items():
            matches = matches[matches[name] == str(value)]
        return str(matches[column].iloc[0]) if len(matches) == 1 else ""

    def value(self, key: Mapping[str, Any], split: str, column: str | None) -> float:
        """The same as a number, NaN where the paper has none."""
        return float(self.text(key, split, column) or NAN)
