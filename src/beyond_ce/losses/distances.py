"""Elementwise distances c(y, v) between two numbers.

All take values `y` and `v` that broadcast against each other. NTL-WAS takes any of them as its
transport cost (`loss.cost`), NTL-L_p any but `squashed` as the penalty on the expected value
(`loss.distance`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from beyond_ce.settings import number, takes

Distance = Callable[[Tensor, Tensor], Tensor]


def absolute(y: Tensor, v: Tensor) -> Tensor:
    """|y - v|."""
    return (y - v).abs()


def squared(y: Tensor, v: Tensor) -> Tensor:
    """(y - v)^2."""
    return (y - v).square()


@takes(
    "loss",
    at_call=False,
    delta=number(above=0, high=1e6),
)
def huber(y: Tensor, v: Tensor, delta: float = 1.0) -> Tensor:
    """Huber's loss: (y - v)^2 / 2 up to `delta`, delta (|y - v| - delta / 2) beyond."""
    gap = (y - v).abs()
    return torch.where(gap <= delta, 0.5 * gap.square(), delta * (gap - 0.5 * delta))


@takes(
    "loss",
    at_call=False,
    modulus=number(above=0, high=1e6),
)
def modular(y: Tensor, v: Tensor, modulus: float = 10.0) -> Tensor:
    """Distance on a circle of circumference `modulus`: the digit 9 is as near to 0 as 1 is."""
    gap = (y - v).abs() % modulus
    return torch.minimum(gap, modulus - gap)


@takes(
    "loss",
    at_call=False,
    factor=number(1, 1e6),
)
def squashed(y: Tensor, v: Tensor, factor: float = 2.0) -> Tensor:
    """|y - v| mapped linearly: the nearest wrong value costs 1, the farthest `factor`.

    For vocabularies whose largest values would otherwise dominate the loss. Nearest and farthest
    are taken over the whole cost matrix, as for `squash_factor` in the authors' `ntloss`, so
    that it is no distance between two numbers alone.
    """
    gap = (y - v).abs()
    wrong = gap > 0
    nearest = torch.where(wrong, gap, torch.inf).min()
    span = (gap.max() - nearest).clamp(min=torch.finfo(gap.dtype).tiny)
    return torch.where(wrong, 1 + (gap - nearest) / span * (factor - 1), 0.0)
