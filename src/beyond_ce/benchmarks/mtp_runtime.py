"""What multi-token prediction costs in training, by size: table mtp-s5."""

from __future__ import annotations

from typing import Any

from beyond_ce.reproduction.measurement import measure_table
from beyond_ce.reproduction.measurements import training_time


def main(args: list[str]) -> dict[str, Any]:
    """Measure without writing a table; returns row -> metric -> mean and interval over repeats."""
    return measure_table("mtp-s5", "mtp_runtime", args, training_time.__doc__)
