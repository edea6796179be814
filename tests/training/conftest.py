"""A run that is interrupted and goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from beyond_ce.runs.experiment import run
from beyond_ce.training import Stopped, Trainer


@pytest.fixture
def run_in_two(monkeypatch: pytest.MonkeyPatch) -> Callable[[DictConfig], Path]:
    """`run` of a config, stopped before step 5 and started again."""

    step = Trainer._step

    def stopped(self: Trainer, session: Any) -> None:
        if session.progress.step == 5:
            raise Stopped("killed")
        step(self, session)

    def run_twice(config: DictConfig) -> Path:
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(Trainer, "_step", stopped)
            run(config)
        return run(config)

    return run_twice
