"""Stopping cleanly on a signal: the step under way ends, a checkpoint is saved, then we go."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from beyond_ce.errors import RunError


class Stopped(RunError):
    """Training was stopped by a signal after saving; the same command goes on from there."""


class StopSignals:
    """Catches SIGTERM, SIGINT and SIGUSR2 while training, to be acted on between two steps.

    SLURM sends SIGTERM on preemption; submitit has SIGUSR2 sent before a time-out and requeues
    the job in its own handler. So after saving, a handler that was installed before ours gets
    the signal: submitit requeues on SIGUSR2, and ignores SIGTERM, after which training goes on.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in self._SIGNALS:
            try:
                self._previous[number] = signal.signal(number, self._remember)
            except ValueError:  # not in the main thread: whoever runs us there owns the signals
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def act(self, step: int) -> None:
        """Pass the signal on after a checkpoint was saved at `step`; raises `Stopped`, or returns
        when the previous handler wants training to go on."""
        assert self.received is not None
        number, self.received = self.received, None
        previous = self._previous[number]
        if callable(previous) and previous is not signal.default_int_handler:
            previous(number, None)
            return
        name = signal.Signals(number).name
        raise Stopped(
            f"stopped by {name} at step {step}, checkpoint saved: "
            "start the same command again to go on from there"
        )
