"""Folders with real weights, which some tests read where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NAMES = ["stories260k", "smollm2-135m-instruct"]
_DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "models"  # beside the checkout


def real_model(name: str) -> Path:
    """The folder `name` in `$BEYOND_CE_MODELS`, in transformers' layout; skips the test if there
    is none."""
    folder = Path(os.environ.get("BEYOND_CE_MODELS", _DEFAULT)) / name
    if not (folder / "config.json").is_file():
        pytest.skip(f"needs {name} in BEYOND_CE_MODELS")
    return folder
