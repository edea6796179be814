"""A module in evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switches dropout off, and afterwards back on if it was on, whatever happens in between."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
