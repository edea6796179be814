"""The losses as a package of their own: what they import, and what they have in common."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import beyond_ce.losses
from beyond_ce.losses import Loss

FILES = sorted(Path(beyond_ce.losses.__file__).parent.glob("*.py"))
LOSSES = [
    value
    for value in map(vars(beyond_ce.losses).get, beyond_ce.losses.__all__)
    if isinstance(value, type) and issubclass(value, Loss) and not value.__abstractmethods__
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_losses_import_nothing_else_of_this_repository(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [node.module or ""]
        ours = [name for name in names if name.split(".")[0] == "beyond_ce"]
        allowed = ("beyond_ce.errors", "beyond_ce.settings", "beyond_ce.losses.")
        assert all(name.startswith(allowed) for name in ours)


@pytest.mark.parametrize("kind", LOSSES, ids=lambda kind: kind.__name__)
def test_a_loss_says_its_target_and_its_denominators(kind: type[Loss]) -> None:
    values = torch.full((12,), torch.nan)
    values[:10] = torch.arange(10.0)
    loss = kind(values)
    assert loss.target in ("tokens", "value", "tokens and values")
    labels = torch.tensor([[3, 11, -100]])
    if loss.target == "value":
        labels = torch.tensor([[3.0]])
    elif loss.target == "tokens and values":
        labels = torch.tensor([[[3.0, 7.0], [11.0, torch.nan]]])
    counts = loss.counts(labels)
    assert counts and all(count.ndim == 0 and count > 0 for count in counts.values())


def test_there_are_losses_of_all_targets() -> None:
    assert {kind.target for kind in LOSSES} == {"tokens", "value", "tokens and values"}
