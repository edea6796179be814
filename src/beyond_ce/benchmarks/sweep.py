"""How much of a table's wall-clock is spent outside training.

The table is made as a user makes it, by `scripts/reproduce_table.py` with `--jobs`, into empty
folders: data and tokenizer are made too. Its wall-clock is that of the whole command, from the
start of Python to the printed table.

Training is what a run's report calls `train_s`: the steps with their validations, records and
checkpoints. Each job trains one run at a time, so a table could train for jobs x wall-clock;
`outside_training` is the share of that in which nothing trained. Of it, `score_and_build_s` is what
the runs do besides: they build their parts, read the cached data, generate and score answers. What
remains, `before_and_between_s`, is imports, composition, preparation, and writing the table.

Smoke runs train for a fraction of a second, in less time than Python takes to import torch. So
`train_s_for_bar` says how long runs must train for the bar to hold, with everything else as
measured.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from beyond_ce.configuration import CONF_DIR
from beyond_ce.errors import RunError
from beyond_ce.runs.provenance import provenance
from beyond_ce.storage.reading import read_json

BAR = 0.2  # at most, of the wall-clock
SCRIPT = CONF_DIR.parent / "scripts" / "reproduce_table.py"


def main(args: list[str]) -> dict[str, Any]:
    """Run the benchmark and return its figures: shares of the wall-clock, and seconds.

    Raises:
        RunError: the table was not made.
    """
    parser = argparse.ArgumentParser(prog="benchmark.py sweep", description=__doc__)
    parser.add_argument("--table", default="ntl-3", help="its runs at scale smoke")
    parser.add_argument("--seeds", default="0,1,2,3,4,5,6,7,8", help="of each row")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    options = parser.parse_args(args)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, str(SCRIPT), options.table, "--scale", "smoke"),
            *("--seeds", options.seeds, "--jobs", str(options.jobs)),
            *(f"results_dir={folder}/results", f"cache_dir={folder}/cache"),
        ]
        start = time.perf_counter()
        made = subprocess.run(command, capture_output=True, encoding="utf-8")
        wall = time.perf_counter() - start
        if made.returncode:
            raise RunError(f"{options.table} was not made: {made.stderr.strip()[-500:]}")
        paths = sorted(Path(folder, "results", "runs").glob("*/report.json"))
        reports = [read_json(path, "start the benchmark again") for path in paths]
    return {
        **shares([(r["train_s"], r["wall_clock_s"]) for r in reports], wall, options.jobs),
        "bar": BAR,
        **vars(options),
        **provenance(),
    }


def shares(runs: list[tuple[float, float]], wall: float, jobs: int) -> dict[str, float]:
    """Where a table's time went.

    Args:
        runs: seconds that each run trained, and that it took, without imports.
        wall: seconds of the whole command.
        jobs: runs at a time.
    """
    train, own = (sum(seconds) for seconds in zip(*runs, strict=True))
    outside = jobs * wall - train
    return {
        "runs": len(runs),
        "wall_s": round(wall, 2),
        "outside_training": round(outside / (jobs * wall), 3),
        "train_s": round(train, 2),
        "score_and_build_s": round(own - train, 2),
        "before_and_between_s": round(jobs * wall - own, 2),
        "train_s_of_a_run": round(statistics.median(seconds for seconds, _ in runs), 3),
        "train_s_for_bar": round(outside * (1 - BAR) / BAR / len(runs), 2),
    }
