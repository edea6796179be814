from __future__ import annotations

from math import log

import torch

from beyond_ce.models.heads import XValHead


def test_token_logits_and_the_number_beside_them() -> None:
    torch.manual_seed(0)
    head, hidden = XValHead(dim=4, vocab_size=7), torch.randn(2, 3, 4)
    predictions = head.logits(hidden)
    assert predictions.shape == (2, 3, 8)
    torch.testing.assert_close(predictions[..., :7], hidden @ head.tokens.weight.T)
    torch.testing.assert_close(predictions[..., 7:], head.number(hidden))


def test_values_leave_the_log_scale_and_are_rounded() -> None:
    numbers = torch.tensor([[log(13.4), -log(3.6), -0.1]])
    assert XValHead(4, 7).values(numbers) == [[12.0, -3.0, 0.0]]
    assert str(XValHead(4, 7).values(numbers)[0][2]) == "0.0"
    assert XValHead(4, 7, decimals=1).values(numbers) == [[12.4, -2.6, -0.1]]
    assert XValHead(4, 7).values(torch.tensor([[1e9]])) == [[1.7976931348623157e308]]
