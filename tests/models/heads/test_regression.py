from __future__ import annotations

from math import inf, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.batches.batch import Numbers
from beyond_ce.errors import UsageError
from beyond_ce.models.heads import LogRegressionHead, RegressionHead


def test_one_value_per_prompt() -> None:
    head = RegressionHead(dim=2, vocab_size=9)
    head.linear.weight.data = torch.tensor([[2.0, -1.0]])
    head.linear.bias.data = torch.tensor([0.5])
    hidden = torch.tensor([[[1.0, 3.0]], [[4.0, 0.0]]])
    assert head.logits(hidden).tolist() == [[-0.5], [8.5]]
    assert head.unembedding() is None


def test_targets_and_values_by_hand() -> None:
    head = RegressionHead(dim=2, vocab_size=9, shift=10.0, scale=4.0)
    targets = head.targets(Numbers([12.0, nan, 2.0]))
    assert targets.dtype == torch.float32
    assert targets[[0, 2]].tolist() == [0.5, -2.0] and targets[1].isnan()
    assert head.values(torch.tensor([[0.5], [-2.0]])) == [12.0, 2.0]
    log_head = LogRegressionHead(dim=2, vocab_size=9)
    assert log_head.targets(Numbers([0.0, -1.0])).tolist() == pytest.approx([0, -0.693147])
    assert log_head.values(torch.tensor([[0.0]])) == [0.0]


@given(st.floats(-1e6, 1e6), st.floats(-100, 100), st.floats(0.01, 100))
def test_values_are_the_inverse_of_targets(value: float, shift: float, scale: float) -> None:
    for kind in (RegressionHead, LogRegressionHead):
        head = kind(dim=2, vocab_size=9, shift=shift, scale=scale)
        (back,) = head.values(head.targets(Numbers([value]))[:, None].double())
        assert back == pytest.approx(value, rel=1e-3, abs=1e-3)


def test_what_overflows_is_clipped() -> None:
    head = LogRegressionHead(dim=2, vocab_size=9)
    high, low = head.values(torch.tensor([[1e30], [-inf]]))
    assert high == -low == 1.7976931348623157e308


def test_a_scale_that_is_not_positive_is_refused() -> None:
    with pytest.raises(UsageError, match=r"head.scale=0"):
        RegressionHead(dim=2, vocab_size=9, scale=0)
