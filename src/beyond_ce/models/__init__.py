"""Language models: a trunk and a head, for training and for decoding token by token."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from beyond_ce.models.base import DecodingState, LanguageModel
from beyond_ce.models.decoder import Decoder
from beyond_ce.models.evaluation_mode import evaluating

if TYPE_CHECKING:
    from beyond_ce.checkpoints import load_decoder, load_llama_checkpoint
    from beyond_ce.models.causal_lm import CausalLM
    from beyond_ce.models.t5 import T5
    from beyond_ce.models.xval import XVal
else:
    _CLASSES = {"CausalLM": "causal_lm", "T5": "t5", "XVal": "xval"}

    def __getattr__(name: str) -> object:
        """Imports at the first use.

        The classes need transformers, which takes longer to import than torch. And
        `beyond_ce.checkpoints` imports this package, because it builds models.
        """
        if name in _CLASSES:
            return getattr(importlib.import_module(f"{__name__}.{_CLASSES[name]}"), name)
        if name in ("load_decoder", "load_llama_checkpoint"):
            from beyond_ce import checkpoints

            return getattr(checkpoints, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
