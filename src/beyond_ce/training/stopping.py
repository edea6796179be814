"""Stopping cleanly on a signal: finish the step, save a checkpoint, then exit."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from beyond_ce.errors import Stopped
from beyond_ce.processes.sweeps import STOP_SIGNALS


class StopSignals:
    """Catches what asks a process to stop during training, to handle it between two steps.

    A closed terminal sends SIGHUP; under nohup, which ignores it, training goes on. SLURM sends
    SIGTERM on preemption, and SIGUSR1 or whatever `--signal` names before a time-out. Under
    submitit that is SIGUSR2, and submitit's own handler requeues the job. So once a checkpoint is
    saved, `pass_on` gives the signal to the handler that was installed before ours. Submitit's
    requeues on SIGUSR2 and ignores SIGTERM, in which case training continues.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in STOP_SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            try:
                self._previous[number] = signal.signal(number, self._remember)
            except ValueError:  # not in the main thread: signals are our caller's to handle
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def pass_on(self, step: int) -> None:
        """Give the signal to the previous handler, after a checkpoint was saved at `step`.

        Returns if that handler lets training continue.

        Raises:
            Stopped: there is no previous handler but Python's default.
        """
        assert self.received is not None
        number, self.received = self.received, None
        previous = self._previous.get(number)  # None where this rank ignores it
        if callable(previous) and previous is not signal.default_int_handler:
            previous(number, None)
            return
        name = signal.Signals(number).name
        raise Stopped(
            f"stopped by {name} at step {step}, checkpoint saved: "
            "start the same command again to continue"
        )
