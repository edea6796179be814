"""What a forward of self-speculative decoding costs, by size, heads and batch: table mtp-cost."""

from __future__ import annotations

from typing import Any

from beyond_ce.reproduction.measurement import measure_table
from beyond_ce.reproduction.measurements import decoding_cost


def main(args: list[str]) -> dict[str, Any]:
    """Measure without writing a table; returns row -> metric -> mean and interval over repeats."""
    return measure_table("mtp-cost", "mtp_cost", args, decoding_cost.__doc__)
