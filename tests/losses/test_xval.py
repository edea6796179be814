from math import log, nan

import pytest
import torch

from beyond_ce.losses import XValLoss

LOGITS = [[0.0, log(2), 0.0], [log(6), 0.0, 0.0], [9.0, 9.0, 9.0]]
NUMBERS = [2.0, 7.0, 7.0]
PREDICTIONS = torch.tensor([[[*row, x] for row, x in zip(LOGITS, NUMBERS, strict=True)]])
LABELS = torch.tensor([[[1.0, 5.0], [0.0, nan], [nan, nan]]])


def loss(weight: float) -> XValLoss:
    return XValLoss(number_values=torch.full((3,), nan), weight=weight)


def test_value_and_gradient_by_hand() -> None:
    predictions = PREDICTIONS.clone().requires_grad_()
    out = loss(0.5)(predictions, LABELS)
    ce = (log(4 / 2) + log(8 / 6)) / 2
    assert out.terms["ce"].item() == pytest.approx(ce)
    assert out.terms["mse"].item() == pytest.approx((2 - 5) ** 2)
    assert out.total.item() == pytest.approx(ce + 0.5 * 9)
    out.total.backward()
    grad = predictions.grad
    assert grad is not None
    expected = [
        [0.25 / 2, (0.5 - 1) / 2, 0.25 / 2, 0.5 * 2 * (2 - 5)],
        [(0.75 - 1) / 2, 0.125 / 2, 0.125 / 2, 0.0],
        [0.0] * 4,
    ]
    torch.testing.assert_close(grad, torch.tensor([expected]))


def test_micro_batches_with_summed_counts_are_the_whole_batch() -> None:
    torch.manual_seed(0)
    predictions = torch.randn(4, 3, 4)
    labels = LABELS.expand(4, 3, 2).clone()
    labels[1] = nan
    counts = {"tokens": torch.tensor(6), "numbers": torch.tensor(3)}
    assert loss(1.0).counts(labels) == counts
    parts = [slice(0, 1), slice(1, 4)]
    total = sum(loss(1.0)(predictions[part], labels[part], counts).total for part in parts)
    torch.testing.assert_close(total, loss(1.0)(predictions, labels).total)


def test_nothing_to_learn_is_zero() -> None:
    assert loss(1.0)(PREDICTIONS, torch.full((1, 3, 2), nan)).total.item() == 0
