"""Heads that predict the answer as a number: the regression baseline of the NTL paper.

Shapes: B examples, D hidden size.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from beyond_ce.batches.batch import Numbers
from beyond_ce.data.numbers import exp_scale, log_scale
from beyond_ce.models.heads.base import Head
from beyond_ce.settings import number, takes


class RegressionHead(Head):
    """One linear map from a prompt's hidden state to its answer's value.

    The map learns (value - `shift`) / `scale`, and the loss is measured on that. Set them to the
    mean and standard deviation of the data set's answers to standardise the targets.

    Args:
        dim: hidden size D.
        vocab_size: unused, because the head predicts no tokens.
        shift, scale: in the unit of the answers.

    Raises:
        UsageError: `scale` is not positive.
    """

    target = "value"
    reads_decoder: ClassVar[bool] = False
    """Whether an encoder-decoder model runs its decoder over the prompt for this head."""

    @takes(
        "head",
        shift=number(-1e12, 1e12),
        scale=number(1e-12, 1e12),
    )
    def __init__(self, dim: int, vocab_size: int, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.shift = shift
        self.scale = scale
        self.linear = _linear(dim, 1)

    def logits(self, hidden: Tensor, offset: int = 0) -> Tensor:
        """Predictions [B, 1] of `targets`, from [B, 1, D]."""
        return self.linear(hidden).squeeze(-1)

    def targets(self, numbers: Numbers | None) -> Tensor:
        """The map's target for each answer: float32 [B], NaN for answers without a number."""
        if numbers is None:
            raise ValueError("a regression head needs the answers' numbers: give `numbers`")
        return torch.tensor([self._to_target(value) for value in numbers.answers])

    def values(self, predictions: Tensor) -> list[float]:
        """The answers [B] for predictions [B, 1]: the inverse of `targets`."""
        return [self._to_value(target) for target in predictions.flatten().tolist()]

    def _to_target(self, value: float) -> float:
        return (value - self.shift) / self.scale

    def _to_value(self, target: float) -> float:
        return target * self.scale + self.shift


class LogRegressionHead(RegressionHead):
    """`RegressionHead` on sign(x) log(1 + |x|) of the value x, for answers of many magnitudes.

    `shift` and `scale` are in the unit of the logarithm.
    """

    def _to_target(self, value: float) -> float:
        return super()._to_target(log_scale(value))

    def _to_value(self, target: float) -> float:
        return exp_scale(super()._to_value(target))


class DecoderRegressionHead(RegressionHead):
    """A regression head as in transformers' T5ForSequenceClassification, the NTL paper's choice.

    The decoder reads the prompt once more, and its state at the end of the prompt goes through a
    linear map, tanh, and the map to one value. In a decoder-only model the state is the last one.

    Source: github.com/tum-ai/number-token-loss, src/ntl/run_language_modeling.py
    (T5ForSequenceClassification with one label).
    """

    reads_decoder = True

    def __init__(self, dim: int, vocab_size: int, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(dim, vocab_size, shift, scale)
        self.dense = _linear(dim, dim)

    def logits(self, hidden: Tensor, offset: int = 0) -> Tensor:
        return super().logits(torch.tanh(self.dense(hidden)), offset)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.normal_(linear.weight, std=inputs**-0.5)
    nn.init.zeros_(linear.bias)
    return linear
