"""A run that takes a while on any machine, and computes what it always does."""

from __future__ import annotations

import time

from beyond_ce.reporting.tracking import NoLogger

SECONDS = 0.3


class SlowLogger(NoLogger):
    """Waits at every line of metrics.jsonl."""

    def log(self, values: dict[str, float], step: int) -> None:
        time.sleep(SECONDS)
