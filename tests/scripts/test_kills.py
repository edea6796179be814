"""kill -9 at any moment, also of restarts: what ends is what would have been without it.

Slow, all of it. Every kill's moment is drawn from the time that the command takes, and hits either
its first process alone, as the kernel does when memory is short, or all of them at once.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from same_runs import check_same, names

ROOT = Path(__file__).resolve().parents[2]
MARK = "BEYOND_CE_TEST_MARK"  # environment variable that all processes of a test inherit
SCORES = 12

TRAIN = [
    *("trainer.max_steps=45", "trainer.checkpoint_every=4", "trainer.evaluate_every=6"),
    *("trainer.log_every=1", "trainer.progress=false"),
]
PROBED = ["+probe=sample_efficiency", "probe.every=7", "probe.examples_per_task=4"]
# name -> script, its arguments, kills. An epoch of the first has 38 steps.
COMMANDS = {
    "t5": ("train.py", ["experiment=ntl/arithmetic/smoke", *TRAIN, "model.dropout=0.1"], 9),
    "several heads": ("train.py", ["experiment=mtp/prose/smoke", *TRAIN], 7),
    "rjokes": ("train.py", ["experiment=ntl/rjokes/smoke", *TRAIN, "loss=ntl_was"], 7),
    "sweep": (
        "train.py",
        [
            *("-m", "experiment=ntl/arithmetic/smoke", *TRAIN, "loss=ce,ntl_was", "seed=0,1"),
            *("hydra/launcher=local", "hydra.launcher.n_jobs=2"),
        ],
        7,
    ),
    "table": ("reproduce_table.py", ["ntl-4", "--scale", "smoke", "--jobs", "2", *TRAIN], 7),
}


@dataclass
class Place:
    """Where a command works: its results, its cache and its TMPDIR are folders in `folder`."""

    folder: Path
    script: str
    arguments: list[str]
    mark: str

    def start(self) -> subprocess.Popen[str]:
        for name in ("results", "cache", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        arguments = [f"{key}_dir={self.folder / key}" for key in ("results", "cache")]
        if "-m" in self.arguments:
            arguments.append(f"hydra.sweep.dir={self.folder / 'sweep'}")
        output = (self.folder.parent / f"{self.folder.name}.log").open("a")
        return subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / self.script), *self.arguments, *arguments],
            cwd=self.folder,
            stdout=output,
            stderr=output,
            text=True,
            env={**os.environ, "TMPDIR": str(self.folder / "tmp"), MARK: self.mark},
            start_new_session=True,
        )

    def finish(self) -> None:
        assert self.start().wait(timeout=400) == 0, self.folder.parent

    def processes(self) -> list[psutil.Process]:
        """Those of this command that live."""
        return [
            process
            for process in psutil.process_iter(["environ", "status"])
            if (process.info["environ"] or {}).get(MARK) == self.mark
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ]

    def wait_until_all_ended(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while orphans := self.processes():
            assert time.monotonic() < deadline, [orphan.cmdline() for orphan in orphans]
            time.sleep(0.1)


@contextmanager
def place(folder: Path, script: str, arguments: list[str]) -> Iterator[Place]:
    made = Place(folder, script, arguments, uuid.uuid4().hex)
    try:
        yield made
    finally:
        for process in made.processes():
            process.kill()


def write_jokes(folder: Path) -> None:
    folder.mkdir()
    draw = random.Random(0)
    words = ["why", "did", "a", "chicken", "cross", "the", "road", "7", "times", "bar"]
    for split, count in (("train", 300), ("dev", 60), ("test", 60)):
        lines = [
            f"{draw.randrange(SCORES)}\t{' '.join(draw.choices(words, k=9))}" for _ in range(count)
        ]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_random_moments(name: str, tmp_path: Path) -> None:
    script, arguments, kills = COMMANDS[name]
    if name in ("rjokes", "table"):
        write_jokes(tmp_path / "rjokes")
        arguments = [*arguments, f"dataset.path={tmp_path / 'rjokes'}"]
    draw = random.Random(name)
    with place(tmp_path / "whole", script, arguments) as whole:
        begin, duration = duration_of(whole)
    hits, series, moments = 0, 0, []
    while hits < kills:
        series += 1
        with place(tmp_path / str(series), script, arguments) as killed:
            while hits < kills:
                process = killed.start()
                moment = draw.uniform(begin, duration)
                try:
                    assert process.wait(moment) == 0
                    break  # it was too late
                except subprocess.TimeoutExpired:
                    pass
                alone = draw.random() < 0.5
                (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
                if process.wait() == -signal.SIGKILL:
                    hits += 1
                    moments.append(f"{moment:.2f} s{', alone' if alone else ''}")
                killed.wait_until_all_ended(20)
            killed.finish()
            killed.wait_until_all_ended(5)
            check_same(killed.folder, whole.folder)
    print(f"{name}: {hits} kills in {series} series of {duration:.1f} s, at {'; '.join(moments)}")


def duration_of(place: Place) -> tuple[float, float]:
    """Seconds until the command has written something, and until its end."""
    start = time.monotonic()
    process = place.start()
    begin = 0.0
    while process.poll() is None:
        if not begin and len(names(place.folder)) > 3:
            begin = time.monotonic() - start
        time.sleep(0.02)
    assert process.returncode == 0
    return begin, time.monotonic() - start
