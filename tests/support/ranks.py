"""Runs on several ranks of this machine, each with the environment that torchrun gives it.

They are forked from a process that has imported everything, so that they begin within a second.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping

import torch
from omegaconf import DictConfig
from real_slurm import free_ports

from beyond_ce.errors import Stopped
from beyond_ce.runs import experiment
from beyond_ce.training import Trainer
from beyond_ce.training.session import Session

Fates = Mapping[int, tuple[int, signal.Signals]]
"""Rank -> the step, counted from 0, before which it gets a signal."""

STOPPED = 3  # exit code of a rank that has saved a checkpoint


def run_on(ranks: int, config: DictConfig, strategy: str, fates: Fates | None = None) -> list[int]:
    """Runs `config` on so many ranks; returns their exit codes."""
    config = config.copy()
    config.trainer.update({"accelerator": "cpu", "devices": ranks})
    config.trainer.strategy = strategy if ranks > 1 else "auto"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["beyond_ce.runs.experiment"])
    (port,) = free_ports(1)
    started = [
        context.Process(target=_rank, args=(config, rank, ranks, port, dict(fates or {})))
        for rank in range(ranks)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=300)
        process.kill()  # if it has not ended
        process.join()
    return [process.exitcode or 0 for process in started]


def _rank(config: DictConfig, rank: int, ranks: int, port: int, fates: Fates) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        places = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "MASTER_PORT": port}
        sizes = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        os.environ |= {name: str(value) for name, value in (places | sizes).items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "test"}
    step = Trainer._step

    def fateful(self: Trainer, session: Session) -> None:
        when, what = fates.get(rank, (None, signal.SIGTERM))
        if session.progress.step == when:
            os.kill(os.getpid(), what)
        step(self, session)

    Trainer._step = fateful  # type: ignore[method-assign]
    try:
        experiment.run(config)
    except Stopped:
        raise SystemExit(STOPPED) from None
