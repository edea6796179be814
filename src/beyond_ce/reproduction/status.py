"""What has become of a table's runs, as text: from the run store alone, on whatever machine."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

from beyond_ce.reporting.tables import Job
from beyond_ce.reproduction.plan import Plan
from beyond_ce.runs.identity import kept_folder
from beyond_ce.runs.state import DONE, FAILED, MISSING, State, state_of

KEPT = "kept"  # not run here: its report is the one in git
_ORDER = (DONE, KEPT, "running", "queued", FAILED, "interrupted", MISSING)


def states(plan: Plan) -> dict[Path, tuple[Job, State]]:
    """Run folder -> job and state; rows that share a run count once."""
    found: dict[Path, tuple[Job, State]] = {}
    for job, config in plan.configs.items():
        folder = plan.folder(job)
        if folder not in found:
            state = state_of(folder, config)
            if state.name == MISSING and (kept_folder(config) / "report.json").exists():
                state = State(KEPT, state.steps, state.steps)
            found[folder] = job, state
    return found


def summary(plan: Plan) -> str:
    """A line such as "ntl-2, scale cpu: 30 done, 2 running, 4 missing"."""
    counts = Counter(state.name for _, state in states(plan).values())
    told = [f"{counts[name]} {name}" for name in _ORDER if counts[name]]
    return f"{plan.table.id}, scale {plan.scale}: {', '.join(told)}"


def table_of_runs(plan: Plan) -> str:
    """A line per run: state, step, speed, time left, folder; and why it failed, with its log."""
    lines = [("run", "seed", "state", "step", "steps/s", "left", "folder")]
    notes: dict[int, str] = {}
    for folder, (job, state) in states(plan).items():
        left = state.seconds_left
        lines.append(
            (
                job.row,
                str(job.seed),
                state.name + (f" ({state.job})" if state.job and state.name != DONE else ""),
                f"{state.step}/{state.steps}" if state.steps else "",
                f"{state.steps_per_s:.3g}" if state.steps_per_s and state.name != DONE else "",
                "" if left is None else str(timedelta(seconds=round(left))),
                str(folder),
            )
        )
        if state.name == FAILED:
            log = f" (see {state.log})" if state.log else ""
            notes[len(lines)] = f"    {state.reason}{log}"
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for number, line in enumerate(lines, 1):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        text += ["  " + "  ".join(cells).rstrip(), *([notes[number]] if number in notes else [])]
    return "\n".join(text)
