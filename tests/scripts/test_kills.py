"""kill -9 at any moment, also of restarts: what ends is what would have been without it.

Slow, all of it. Every kill's moment is drawn from the time that the command takes. It hits all of
the command's processes at once, its first alone, or any other one, as the kernel does when memory
is short.
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
]  # an epoch of the first has 38 steps
SHORTER = ["trainer.max_steps=20", "trainer.checkpoint_every=3", *TRAIN[2:]]
# name -> script, its arguments, kills
COMMANDS = {
    "t5": ("train.py", ["experiment=ntl/arithmetic/smoke", *TRAIN, "model.dropout=0.1"], 9),
    "several heads": ("train.py", ["experiment=mtp/prose/smoke", *TRAIN], 7),
    "rjokes": ("train.py", ["experiment=ntl/rjokes/smoke", *TRAIN, "loss=ntl_was"], 7),
    "sweep": (
        "train.py",
        [
            *("-m", "experiment=ntl/arithmetic/smoke", *SHORTER, "loss=ce,ntl_was"),
            *("hydra/launcher=local", "hydra.launcher.n_jobs=2"),
        ],
        7,
    ),
    "table": ("reproduce_table.py", ["ntl-4", "--scale", "smoke", "--jobs", "2", *SHORTER], 7),
    "two ranks": (
        "train.py",
        [
            *("experiment=ntl/arithmetic/smoke", *TRAIN),
            *("trainer.devices=2", "trainer.strategy=ddp"),
        ],
        7,
    ),
}
ENDS_WITHIN_S = 60  # an orphan; seconds on an idle machine


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
        assert self.start().wait(timeout=1800) == 0, self.folder.parent
        self.wait_until_all_ended()

    def processes(self) -> list[psutil.Process]:
        """Those of this command that live."""
        return [
            process
            for process in psutil.process_iter(["environ", "status"])
            if (process.info["environ"] or {}).get(MARK) == self.mark
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ]

    def wait_until_all_ended(self) -> float:
        """The seconds that it took."""
        begin = time.monotonic()
        while orphans := self.processes():
            seconds = time.monotonic() - begin
            assert seconds < ENDS_WITHIN_S, [orphan.cmdline() for orphan in orphans]
            time.sleep(0.1)
        return time.monotonic() - begin

    def kill(self, process: subprocess.Popen[str], draw: random.Random) -> str:
        """Whom it hit: "all", "first" or "other"; empty if nobody was left to be hit."""
        victim = draw.choice(["all", "first", "other"])
        others = [other for other in self.processes() if other.pid != process.pid]
        if victim == "other" and others:
            draw.choice(others).kill()
            # The command may go on without it, or end because of it.
            process.wait(timeout=1800)
            return victim
        (os.killpg if victim == "all" else os.kill)(process.pid, signal.SIGKILL)
        return victim if process.wait() == -signal.SIGKILL else ""


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
    series, kills_made, longest = 0, [], 0.0
    while len(kills_made) < kills:
        series, starts = series + 1, 0
        with place(tmp_path / str(series), script, arguments) as killed:
            while len(kills_made) < kills:
                process, started, starts = killed.start(), time.monotonic(), starts + 1
                moment = draw.uniform(begin, duration)
                try:
                    assert process.wait(moment) == 0
                    if starts == 1:  # the machine has become faster
                        faster = (time.monotonic() - started) / duration
                        begin, duration = begin * faster, duration * faster
                    break
                except subprocess.TimeoutExpired:
                    if victim := killed.kill(process, draw):
                        kills_made.append(f"{victim} at {moment:.1f} s")
                longest = max(longest, killed.wait_until_all_ended())
                if process.returncode == 0:
                    break  # it did not need the process that was killed
            killed.finish()
            check_same(killed.folder, whole.folder)
    print(
        f"{name}: {len(kills_made)} kills in {series} series of {duration:.1f} s, "
        f"{', '.join(kills_made)}; all had ended {longest:.1f} s after a kill"
    )


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


T5 = [
    *("experiment=ntl/arithmetic/smoke", "dataset.train_per_difficulty=80"),
    *("dataset.validation_per_difficulty=10", "dataset.test_size=20", "evaluator.max_new_tokens=4"),
]
HEADS = ["experiment=mtp/prose/smoke", "evaluator.max_tokens=200", "evaluator.batch_sizes=[1]"]
FEW_STEPS = [
    *("trainer.max_steps=12", "trainer.checkpoint_every=3", "trainer.evaluate_every=4"),
    *("trainer.log_every=1", "trainer.progress=false"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t5", "several heads"])
def test_killed_at_changes_to_files(name: str, official_data: Path, tmp_path: Path) -> None:
    """Between any two changes to files, report and all: moments that chance seldom finds."""
    config = [*T5, f"dataset.path={official_data}"] if name == "t5" else HEADS
    program = ROOT / "tests" / "support" / "kill_points.py"
    stride, first = 3, random.Random(name).randint(1, 3)
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path), str(stride), str(first), *config, *FEW_STEPS],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *killed, whole = sorted((path for path in tmp_path.iterdir() if path.is_dir()), key=number)
    assert len(killed) > 20
    for folder in killed:
        check_same(folder, whole)
    print(f"{name}: {done.stdout.strip()} kills at {len(killed)} changes")


def number(path: Path) -> int:
    return int(path.name)
