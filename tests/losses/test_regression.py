from math import nan

import pytest
import torch

from beyond_ce.losses import MeanSquaredError


def loss() -> MeanSquaredError:
    return MeanSquaredError(number_values=torch.full((5,), nan))


def test_value_and_gradient_by_hand() -> None:
    predictions = torch.tensor([[1.0], [5.0], [-2.0], [9.0]], requires_grad=True)
    labels = torch.tensor([[3.0], [4.0], [nan], [torch.inf]])
    out = loss()(predictions, labels)
    assert out.total.item() == pytest.approx((4 + 1) / 2)
    assert out.terms["mse"] is out.total
    out.total.backward()
    assert predictions.grad is not None
    assert predictions.grad.tolist() == [[-2.0], [1.0], [0.0], [0.0]]


def test_micro_batches_with_summed_counts_are_the_whole_batch() -> None:
    torch.manual_seed(0)
    predictions, labels = torch.randn(6, 1), torch.randn(6, 1)
    labels[1:3] = nan
    whole = loss()(predictions, labels)
    parts = [slice(0, 2), slice(2, 6)]
    counts = {"values": sum(loss().counts(labels[part])["values"] for part in parts)}
    assert counts["values"] == 4
    total = sum(loss()(predictions[part], labels[part], counts).total for part in parts)
    torch.testing.assert_close(total, whole.total)


def test_nothing_to_learn_is_zero() -> None:
    predictions = torch.ones(2, 1, requires_grad=True)
    out = loss()(predictions, torch.full((2, 1), nan))
    out.total.backward()
    assert out.total.item() == 0
    assert predictions.grad is not None and not predictions.grad.any()
