"""Sampling with a temperature and from the nucleus (Holtzman et al., 2020, arXiv:1904.09751).

Shapes: B sequences, V vocabulary, N the longest continuation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Sampler:
    """Draws the next token of every sequence of one batch.

    Each sequence has its own stream of random numbers, one per token, which depends on the seed
    and the sequence's number alone. So the draws depend neither on the rest of the batch nor, up to
    rounding, on the device.

    Args:
        temperature: divisor of the logits, positive and finite.
        top_p: only tokens of the nucleus are drawn (see `nucleus`); in (0, 1], 1 for all.
        seed: shared by all streams, non-negative.
        numbers: of the B sequences, non-negative and of any size.
        length: N, of each stream. A longer stream starts with the shorter one.
    """

    def __init__(
        self, temperature: float, top_p: float, seed: int, numbers: Sequence[int], length: int
    ) -> None:
        self.temperature = temperature
        self.top_p = top_p
        streams = [np.random.default_rng([seed, number]).random(length) for number in numbers]
        self.draws = torch.from_numpy(np.stack(streams))

    def __call__(self, logits: Tensor, rows: list[int], t: int) -> Tensor:
        """Token t (long [B']) of some sequences of the batch from their logits [B', V]."""
        # Subtract the largest logit first: dividing by a tiny temperature could overflow.
        scores = logits.double() - logits.amax(dim=-1, keepdim=True).double()
        probabilities = nucleus((scores / self.temperature).softmax(dim=-1), self.top_p)
        return draw(probabilities, self.draws[rows, t].to(logits.device))


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Probabilities [B, V] with zeros outside the nucleus, not normalised again.

    The nucleus is the smallest set of the most probable tokens that holds `top_p`: a token is in
    it if the more probable ones together stay below `top_p`. Among equally probable tokens
    those with smaller ids come first.
    """
    if top_p == 1:
        return probabilities  # skip the sort, which takes longer than all the rest
    falling, order = probabilities.sort(dim=-1, descending=True, stable=True)
    outside = falling.cumsum(dim=-1) - falling >= top_p
    return probabilities.masked_fill(outside.scatter(-1, order, outside), 0.0)


def draw(weights: Tensor, uniform: Tensor) -> Tensor:
    """Draws a token (long [B]) from each row of weights [B, V] by inverting its distribution.

    Args:
        weights: float64, non-negative, with a positive sum.
        uniform: float64 [B], in [0, 1).
    """
    cumulative = weights.cumsum(dim=-1)
    # In float64 the product stays below the sum for every number below 1, so the index stays below
    # V; `right` skips tokens without weight.
    target = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)
