from __future__ import annotations

import pytest
import torch

from beyond_ce.models.heads import LMHead


def test_logits_are_the_hidden_states_times_the_unembedding() -> None:
    head, hidden = LMHead(dim=4, vocab_size=7), torch.randn(2, 3, 4)
    assert head.n == 1
    torch.testing.assert_close(head.logits(hidden), hidden @ head.unembedding().T)


def test_shares_a_matrix() -> None:
    head, embedding = LMHead(dim=4, vocab_size=7), torch.nn.Embedding(7, 4)
    head.share(embedding.weight)
    assert head.unembedding() is embedding.weight
    assert [parameter is embedding.weight for parameter in head.parameters()] == [True]


def test_predicts_the_next_token_only() -> None:
    with pytest.raises(IndexError, match="offset 1"):
        LMHead(dim=4, vocab_size=7).logits(torch.randn(1, 1, 4), offset=1)
