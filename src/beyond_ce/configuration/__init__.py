"""Composing configs, checking them, and building what they name."""

import beyond_ce.configuration.recipes  # noqa: F401  # recipe settings go away with their choices
from beyond_ce.configuration.composing import (
    CONF_DIR,
    FORMER_NAMES,
    RECIPE,
    build,
    check,
    check_overrides,
    check_scale,
    choices,
    compose,
    experiments,
    explain,
)

__all__ = [
    "CONF_DIR",
    "FORMER_NAMES",
    "RECIPE",
    "build",
    "check",
    "check_overrides",
    "check_scale",
    "choices",
    "compose",
    "experiments",
    "explain",
]
