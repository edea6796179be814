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

    Each sequence has a stream of random numbers of its own, one number for each token, made of
    the seed and the sequence's name alone. What is drawn depends neither on its batch-mates nor,
    up to rounding, on the device.

    Args:
        temperature: what logits are divided by, positive and finite.
        top_p: only tokens of the nucleus are drawn (see `nucleus`); in (0, 1], 1 for all.
        seed: of all streams, non-negative.
        names: of the B sequences, non-negative.
        length: numbers N in each stream. A longer stream starts as the shorter one.
    """

    def __init__(
        self, temperature: float, top_p: float, seed: int, names: Sequence[int], length: int
    ) -> None:
        self.temperature = temperature
        self.top_p = top_p
        streams = [np.random.default_rng([seed, name]).random(length) for name in names]
        self.draws = torch.from_numpy(np.stack(streams))

    def __call__(self, logits: Tensor, rows: list[int], t: int) -> Tensor:
        """Token t (long [B']) of some sequences of the batch from their logits [B', V]."""
        # Less the largest logit, as a quotient by a tiny temperature would overflow.
        scores = logits.double() - logits.amax(dim=-1, keepdim=True).double()
        probabilities = nucleus((scores / self.temperature).softmax(dim=-1), self.top_p)
        return draw(probabilities, self.draws[rows, t].to(logits.device))


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Probabilities [B, V] with zeros outside the nucleus, not normalised again.

    The nucleus is the smallest set of the most probable tokens that holds `top_p`: a token is in
    it if the more probable ones together stay below `top_p`. Of equally probable tokens the ones
    with the smaller ids come first.
    """
    if top_p == 1:
        return probabilities  # spares the sort, which takes longer than all the rest
    falling, order = probabilities.sort(dim=-1, descending=True, stable=True)
    outside = falling.cumsum(dim=-1) - falling >= top_p
    return probabilities.masked_fill(outside.scatter(-1, order, outside), 0.0)


def draw(weights: Tensor, uniform: Tensor) -> Tensor:
    """A token (long [B]) of each row of weights [B, V] by inversion of their distribution.

    Args:
        weights: float64, non-negative, with a positive sum.
        uniform: float64 [B], in [0, 1).
    """
    cumulative = weights.cumsum(dim=-1)
    # In float64 the product stays below the sum for every number below 1, so that the index stays
    # below V; `right` passes over tokens without weight.
    target = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)
