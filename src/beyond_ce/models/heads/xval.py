"""The head of xVal: a token and a number at every position (Golkar et al. 2023, arXiv:2310.02989).

Shapes: B examples, T positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from beyond_ce.data.numbers import exp_scale
from beyond_ce.models.heads.base import Head
from beyond_ce.settings import takes, whole


class XValHead(Head):
    """Token logits from one linear map, and the number from an MLP with one hidden layer.

    The number is on the scale of `log_scale`, and only meaningful if the token is [NUM].

    Args:
        dim: hidden size D.
        vocab_size: V.
        decimals: decimals to which an answer's numbers are rounded.

    NOTE: a regression never predicts a number exactly, but accuracy counts exact matches. The NTL
    paper's evaluation rounds each prediction to the number of decimals of its label, which no model
    can know. Here the number of decimals is fixed per data set, such as 0 for whole numbers.
    """

    target = "tokens and values"

    @takes(
        "head",
        decimals=whole(0, 300),
    )
    def __init__(self, dim: int, vocab_size: int, decimals: int = 0) -> None:
        super().__init__()
        self.decimals = decimals
        self.tokens = nn.Linear(dim, vocab_size, bias=False)
        self.number = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 1))
        nn.init.normal_(self.tokens.weight, std=dim**-0.5)

    def logits(self, hidden: Tensor, offset: int = 0) -> Tensor:
        """[B, T, V + 1] from [B, T, D]: the V token logits, and the number in the last column."""
        return torch.cat((self.tokens(hidden), self.number(hidden)), dim=-1)

    def values(self, numbers: Tensor) -> list[list[float]]:
        """The values [B, T] of predicted numbers [B, T], with the log scale undone, rounded."""
        return [
            [round(exp_scale(number), self.decimals) + 0.0 for number in row]  # no minus zero
            for row in numbers.tolist()
        ]
