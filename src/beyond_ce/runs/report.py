"""The part of report.json that all kinds of runs have in common."""

from __future__ import annotations

import datetime
from typing import Any

from omegaconf import DictConfig, OmegaConf

from beyond_ce.runs.identity import run_folder
from beyond_ce.runs.provenance import provenance


def report_head(config: DictConfig) -> dict[str, Any]:
    """The run's name, seed, scale and resolved config, and where its numbers come from."""
    return {
        "run": run_folder(config).name,
        "seed": config.seed,
        "scale": config.scale,
        "config": OmegaConf.to_container(config, resolve=True),
        **provenance(),
    }


def now() -> str:
    """The time in UTC as ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat()
