"""The standard language model head: one linear map to the next token's logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beyond_ce.models.heads.base import Head


class LMHead(Head):
    """Logits of the next token, `hidden @ weight.T`.

    Args:
        dim: hidden size D.
        vocab_size: rows V of the unembedding.
    """

    def __init__(self, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, dim))
        nn.init.normal_(self.weight, std=dim**-0.5)

    def logits(self, hidden: Tensor, offset: int = 0) -> Tensor:
        return F.linear(hidden, self.unembedding(offset))

    def unembedding(self, offset: int = 0) -> Tensor:
        if offset != 0:
            raise IndexError(f"the lm head predicts the next token only, not offset {offset}")
        return self.weight

    def share(self, unembedding: nn.Parameter) -> None:
        self.weight = unembedding
