"""Runs that wait on the way, on any machine alike, and compute what they always do."""

from __future__ import annotations

import os
import time
from pathlib import Path

from beyond_ce.reporting.tracking import NoLogger

SECONDS = 0.3
HELD_BY = "BEYOND_CE_TEST_HELD_BY"  # a file: as long as it is there, no run goes past HELD_AT
HELD_AT = 50


class SlowLogger(NoLogger):
    """Waits at every line of metrics.jsonl."""

    def log(self, values: dict[str, float], step: int) -> None:
        time.sleep(SECONDS)


class HeldLogger(NoLogger):
    """Waits at step `HELD_AT` until the file that `HELD_BY` names is gone."""

    def log(self, values: dict[str, float], step: int) -> None:
        while step == HELD_AT and Path(os.environ[HELD_BY]).exists():
            time.sleep(0.05)
