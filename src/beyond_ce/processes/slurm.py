"""Jobs on SLURM, through submitit: one array for what belongs together, waited for to the end."""

from __future__ import annotations

import functools
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from omegaconf import OmegaConf
from submitit.slurm.slurm import SlurmInfoWatcher

from beyond_ce.errors import UsageError, one_line
from beyond_ce.processes import slurm_job

_LOOK_EVERY_S = 1.0
_ASK_AT_MOST_EVERY_S = 60
_QUEUED = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "CONFIGURING", "UNKNOWN")


class Watcher(SlurmInfoWatcher):
    """The states of jobs: from sacct, or from squeue on a cluster that keeps no accounts.

    There submitit would wait for a job that was killed for ever.
    """

    def _make_command(self) -> list[str] | None:
        command = super()._make_command()
        if command is None or _keeps_accounts():
            return command
        return ["squeue", "--me", "--array", "--states=all", "--format=%i|%T|%N"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        if _keeps_accounts():
            return super().read_info(string)
        text = string if isinstance(string, str) else string.decode()
        info = super().read_info("\n".join(["JobID|State|NodeList", *text.splitlines()[1:]]))
        # Squeue forgets a job some minutes after its end.
        gone = {job: {"State": "GONE"} for job in self._registered if job not in info}
        return {**info, **gone}


@functools.cache
def _keeps_accounts() -> bool:
    if shutil.which("sacct") is None:
        return False
    asked = subprocess.run(["sacct", "--noheader", "--jobs=0"], capture_output=True)
    return asked.returncode == 0


submitit.SlurmJob.watcher = Watcher(delay_s=_ASK_AT_MOST_EVERY_S)


def parameters_of(launcher: Mapping[Any, Any]) -> dict[str, Any]:
    """The settings of conf/hydra/launcher/slurm.yaml under submitit's names."""
    common = set(OmegaConf.structured(BaseQueueConf))
    return {
        (str(key) if key in common else f"slurm_{key}"): (
            OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        )
        for key, value in launcher.items()
        if key not in ("_target_", "submitit_folder") and value is not None
    }


def submit(
    folder: Path,
    parameters: Mapping[str, Any],
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    after: Sequence[str] = (),
    cluster: str = "slurm",
) -> list[submitit.Job[Any]]:
    """One job per tuple of arguments, all in one array.

    Args:
        folder: for logs, arguments and results; "%j" in it stands for the job's id.
        parameters: see `parameters_of`.
        after: ids of jobs that must have succeeded before. If one of them fails, these are
            cancelled.

    Raises:
        UsageError: there is no SLURM, or it refuses the jobs.
    """
    settings = dict(parameters)
    starting = {k: settings.pop(k) for k in ("slurm_max_num_timeout",) if k in settings}
    starting["slurm_python"] = shlex.join([sys.executable, str(slurm_job.__file__)])
    if after:
        settings["slurm_dependency"] = "afterok:" + ":".join(after)
        more = settings.get("slurm_additional_parameters") or {}
        settings["slurm_additional_parameters"] = {**more, "kill-on-invalid-dep": "yes"}
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster, **starting)
        executor.update_parameters(**settings)
        return executor.map_array(function, *zip(*arguments, strict=True))
    except (RuntimeError, ValueError, NameError) as error:
        raise UsageError(
            f"cannot submit to SLURM: {one_line(error)}; see docs/cluster.md for its settings, or "
            "use the launcher local"
        ) from error


def wait(
    jobs: Sequence[submitit.Job[Any]],
    on_done: Callable[[submitit.Job[Any]], None],
    show: Callable[[str], None],
) -> None:
    """Waits for all jobs, whatever becomes of the others.

    Args:
        on_done: called with each job at its end.
        show: called with a line such as "2 queued, 3 running" whenever that changes.
    """
    waiting = list(jobs)
    shown = ""
    while waiting:
        for job in [job for job in waiting if job.done()]:
            waiting.remove(job)
            on_done(job)
        states = Counter("queued" if job.state in _QUEUED else "running" for job in waiting)
        line = f"{states['queued']} queued, {states['running']} running"
        if line != shown:
            show(line)
            shown = line
        if waiting:
            time.sleep(_LOOK_EVERY_S)


def failure(job: submitit.Job[Any]) -> str | None:
    """Why an ended job has left no result, as one line; None if it has one."""
    error = job.exception()
    if error is None:
        return None
    if isinstance(error, submitit.core.utils.FailedJobError):
        lines = [line for line in str(error).splitlines() if line.strip("- ")]
        return lines[-4] if len(lines) > 4 else one_line(error)
    return (
        f"job {job.job_id} ended without a result ({job.state}): it was cancelled, killed, or had "
        "no time or memory left"
    )
