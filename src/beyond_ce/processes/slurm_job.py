"""The first process of a SLURM job: starts the one that works, and requeues the job if that dies.

A process that is killed from outside, for memory say, can neither requeue its job nor say why it
ended. As on one machine, the job gets one more try, which continues from the last checkpoint; dying
twice is a failure. An error of the run's own ends the job at once.

Submitit starts this file in the place of Python, so it imports nothing of the package.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_PASSED_ON = ("SIGTERM", "SIGCONT", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT")
_ENDED_WITHIN_S = 60  # by SLURM, which ends all processes of a job that it requeues


def main(arguments: list[str]) -> int:
    """Runs Python with `arguments`; returns its exit code.

    Args:
        arguments: submitit's, of which the last is its folder; "%j" in it stands for the job's id.

    SLURM signals all processes of a job: here, they are the other process's to act on.
    """
    for name in _PASSED_ON:
        # Not SIG_IGN, which the other process would inherit.
        signal.signal(getattr(signal, name), lambda *_: None)
    code = subprocess.call([sys.executable, *arguments])
    if code >= 0:
        return code
    job = os.environ["SLURM_JOB_ID"]
    died = f"job {job}: its process was ended by {signal.Signals(-code).name} (out of memory?)"
    of_array = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = "_".join(map(str, of_array)) if None not in of_array else job
    mark = Path(arguments[-1].replace("%j", name)) / "died"
    if not mark.exists():
        mark.touch()
        print(f"{died}; it is requeued, and continues from the last checkpoint", file=sys.stderr)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # SLURM sends it to what it requeues
        if subprocess.call(["scontrol", "requeue", job]) == 0:
            time.sleep(_ENDED_WITHIN_S)  # a job that ended by itself could look like a failed one
            return 1
    print(f"error: {died}", file=sys.stderr)
    return 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
