"""A context manager for evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts the module into evaluation mode and restores its mode afterwards, even on errors."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
