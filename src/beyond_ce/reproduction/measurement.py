"""Tables that are measured instead of trained, all rows in one process."""

from __future__ import annotations

import argparse
import gc
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from beyond_ce.configuration import build
from beyond_ce.reporting.statistics import summarize
from beyond_ce.reproduction.plan import Plan, plan
from beyond_ce.runs.inputs import current_inputs
from beyond_ce.runs.provenance import provenance
from beyond_ce.runs.report import report_head
from beyond_ce.runs.store import open_run, write_report


def measure(plan: Plan) -> None:
    """Measures in this process what the table lacks; writes a report for each row and seed.

    The table's `measure` is called with row -> config and the seeds, which number the repeats; it
    yields (seed, row -> fields of report.json). If a seed lacks one row, all rows are measured
    again, because only rows that took turns can be compared.
    """
    seeds = sorted({job.seed for job in plan.missing().values()})
    if not seeds:
        return
    configs = {(job.row, job.seed): config for job, config in plan.configs.items()}
    rows = {row: config for (row, _), config in configs.items()}
    measurement = build(next(iter(rows.values())).measure, "measure")
    bar = tqdm(measurement(rows, seeds), plan.table.id, len(seeds), unit="repeat")
    for seed, reports in bar:
        for row, fields in reports.items():
            config = configs[row, seed]
            with open_run(config) as folder:
                report = {**report_head(config), "scale": plan.scale, **fields}
                if inputs := current_inputs(config):
                    report["inputs"] = inputs
                write_report(folder, report)


class RowByRow(ABC):
    """A measurement of independent rows, one by one, as only one model may fit the device."""

    def __call__(
        self, configs: Mapping[str, DictConfig], repeats: Sequence[int]
    ) -> Iterator[tuple[int, dict[str, dict[str, Any]]]]:
        """Yields (repeat, row -> fields of report.json) as they come."""
        for repeat in repeats:
            reports = {}
            for row, config in configs.items():
                reports[row] = self.measure(config, repeat)
                gc.collect()  # a model in a cycle of references would stay beside the next one
            yield repeat, reports

    @abstractmethod
    def measure(self, config: DictConfig, repeat: int) -> dict[str, Any]:
        """Fields of report.json, `metrics` among them."""


def measure_table(
    table_id: str, name: str, args: list[str], description: str | None
) -> dict[str, Any]:
    """Takes a table's measurements without writing the table.

    Args:
        name: the benchmark's name, for its --help.
        args: the benchmark's command line.

    Returns:
        Row -> metric -> mean and interval over repeats, under "rows".
    """
    parser = argparse.ArgumentParser(prog=f"benchmark.py {name}", description=description)
    parser.add_argument("--scale", default="cpu", help="smoke, cpu (default), gpu or paper")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of torch; default: the scale's")
    options = parser.parse_args(args)
    threads = [f"trainer.num_threads={options.threads}"] if options.threads else []
    planned = plan(table_id, options.scale, range(options.repeats), threads)
    configs = {job.row: config for job, config in planned.configs.items()}
    measurement = build(next(iter(configs.values())).measure, "measure")
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _, reports in measurement(configs, range(options.repeats)):
        for row, report in reports.items():
            for metric, value in report["metrics"].items():
                values[row][metric].append(value)
    return {
        "rows": {
            row: {metric: asdict(summarize(repeats)) for metric, repeats in metrics.items()}
            for row, metrics in values.items()
        },
        "scale": options.scale,
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
        **provenance(),
    }
