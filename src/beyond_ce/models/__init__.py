"""Language models: a trunk and a head, for training and for decoding token by token."""

from beyond_ce.models.base import DecodingState, LanguageModel
from beyond_ce.models.causal_lm import CausalLM
from beyond_ce.models.checkpoints import load_decoder, load_llama_checkpoint
from beyond_ce.models.decoder import Decoder
from beyond_ce.models.evaluation_mode import evaluating
from beyond_ce.models.t5 import T5
from beyond_ce.models.xval import XVal

__all__ = [
    "T5",
    "CausalLM",
    "Decoder",
    "DecodingState",
    "LanguageModel",
    "XVal",
    "evaluating",
    "load_decoder",
    "load_llama_checkpoint",
]
