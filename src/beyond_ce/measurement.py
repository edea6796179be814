"""Tables that are measured and not trained: one process takes all their numbers."""

from __future__ import annotations

from omegaconf import OmegaConf
from tqdm import tqdm

from beyond_ce.configuration import build
from beyond_ce.reporting.run_store import open_run, provenance, write_report
from beyond_ce.reproduction import Plan


def measure(plan: Plan) -> None:
    """Takes what the table lacks, here and now, and writes a report for each row and seed.

    The table's `measure` is called with row -> config and the seeds, which number the repeats; it
    yields (seed, row -> fields of report.json). A seed that lacks one row is measured again with
    all of them, because rows are compared that took turns.
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
                report = {
                    "run": folder.name,
                    "seed": seed,
                    "scale": plan.scale,
                    "config": OmegaConf.to_container(config, resolve=True),
                    **provenance(),
                    **fields,
                }
                write_report(folder, report)
