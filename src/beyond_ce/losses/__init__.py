"""Training objectives: pure functions of logits (or hidden states) and labels."""

from beyond_ce.losses.base import Loss, LossOutput, TokenLoss
from beyond_ce.losses.cross_entropy import CrossEntropy
from beyond_ce.losses.distances import absolute, huber, modular, squared, squashed
from beyond_ce.losses.gaussian import GaussianCrossEntropy, GaussianWassersteinLoss
from beyond_ce.losses.number_level import NumberLevelLoss
from beyond_ce.losses.number_token import (
    CumulativeWassersteinLoss,
    ExpectedValueLoss,
    NumberLoss,
    NumberTokenLoss,
    WassersteinLoss,
)
from beyond_ce.losses.regression import MeanSquaredError
from beyond_ce.losses.reweighed import ReweighedExpectedValueLoss, ReweighedWassersteinLoss
from beyond_ce.losses.xval import XValLoss

__all__ = [
    "CrossEntropy",
    "CumulativeWassersteinLoss",
    "ExpectedValueLoss",
    "GaussianCrossEntropy",
    "GaussianWassersteinLoss",
    "Loss",
    "LossOutput",
    "MeanSquaredError",
    "NumberLevelLoss",
    "NumberLoss",
    "NumberTokenLoss",
    "ReweighedExpectedValueLoss",
    "ReweighedWassersteinLoss",
    "TokenLoss",
    "WassersteinLoss",
    "XValLoss",
    "absolute",
    "huber",
    "modular",
    "squared",
    "squashed",
]
