"""The head of xVal: a token and a number at every position (Golkar et al. 2023, arXiv:2310.02989).

Shapes: B examples, T positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from beyond_ce.data.numbers import exp_scale
from beyond_ce.models.heads.base import Head


class XValHead(Head):
    """Token logits from one linear map, and the number from a perceptron with one hidden layer.

    The number is in the scale of `log_scale`, and means something where the token is [NUM].

    Args:
        dim: hidden size D.
        vocab_size: V.
        decimals: places after the point to which an answer's numbers are rounded.

    NOTE: a regression never hits a number exactly, and accuracy asks for exactness. The NTL paper's
    evaluation rounds each prediction to as many decimals as its own label has, which no model can
    know; here the number of decimals is fixed for a data set, as whether answers are whole.
    """

    target = "tokens and values"

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
        """The values [B, T] of predicted numbers [B, T], out of their scale and rounded."""
        return [
            [round(exp_scale(number), self.decimals) + 0.0 for number in row]  # no minus zero
            for row in numbers.tolist()
        ]
