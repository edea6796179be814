"""Heads: from hidden states to logits."""

from beyond_ce.models.heads.base import Head
from beyond_ce.models.heads.lm import LMHead
from beyond_ce.models.heads.multi_token import (
    AnticausalMultiTokenHead,
    CausalMultiTokenHead,
    LinearBlocks,
    MultiTokenHead,
    ReplicatedUnembedding,
    SharedUnembedding,
    TransformerBlocks,
)
from beyond_ce.models.heads.recurrent import RecurrentMultiTokenHead
from beyond_ce.models.heads.regression import (
    DecoderRegressionHead,
    LogRegressionHead,
    RegressionHead,
)
from beyond_ce.models.heads.xval import XValHead

__all__ = [
    "AnticausalMultiTokenHead",
    "CausalMultiTokenHead",
    "DecoderRegressionHead",
    "Head",
    "LMHead",
    "LinearBlocks",
    "LogRegressionHead",
    "MultiTokenHead",
    "RecurrentMultiTokenHead",
    "RegressionHead",
    "ReplicatedUnembedding",
    "SharedUnembedding",
    "TransformerBlocks",
    "XValHead",
]
