"""Distances by hand."""

from functools import partial

import pytest
import torch

from beyond_ce.errors import UsageError
from beyond_ce.losses import ExpectedValueLoss, absolute, huber, modular, squared, squashed


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (absolute, [0.0, 0.5, 3.0, 8.0]),
        (squared, [0.0, 0.25, 9.0, 64.0]),
        (huber, [0.0, 0.125, 2.5, 7.5]),
        (modular, [0.0, 0.5, 3.0, 2.0]),
        (squashed, [0.0, 1.0, 1 + 2.5 / 7.5, 2.0]),
    ],
)
def test_by_hand(distance, expected):
    y, v = torch.full((4,), 9.0), torch.tensor([9.0, 8.5, 6.0, 1.0])
    torch.testing.assert_close(distance(y, v), torch.tensor(expected))
    torch.testing.assert_close(distance(v, y), torch.tensor(expected))


def test_huber_delta():
    gap = torch.tensor([1.0, 4.0])
    assert huber(gap, torch.zeros(2), delta=2.0).tolist() == [0.5, 6.0]


def test_squashed_with_one_wrong_value():
    values = torch.tensor([3.0, 4.0])
    assert squashed(values[:, None], values, factor=5.0).tolist() == [[0, 1], [1, 0]]
    assert squashed(values[:1, None], values[:1]).tolist() == [[0.0]]


@pytest.mark.parametrize("distance", [squashed, partial(squashed, factor=3.0)])
def test_squashed_is_for_costs_only(distance):
    """Over the values of a batch, the loss would depend on how it is cut into micro-batches."""
    with pytest.raises(UsageError, match="no distance between two numbers"):
        ExpectedValueLoss(torch.arange(10.0), distance=distance)
