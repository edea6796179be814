"""Language models: a trunk and a head, for training and for decoding token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beyond_ce.models.base import DecodingState, LanguageModel
from beyond_ce.models.causal_lm import CausalLM
from beyond_ce.models.decoder import Decoder
from beyond_ce.models.evaluation_mode import evaluating
from beyond_ce.models.t5 import T5
from beyond_ce.models.xval import XVal

if TYPE_CHECKING:
    from beyond_ce.checkpoints import load_decoder, load_llama_checkpoint
else:

    def __getattr__(name: str) -> object:
        """Lazy imports of `load_decoder` and `load_llama_checkpoint`, which users expect here.

        `beyond_ce.checkpoints` imports this package, because it builds models. We import it only
        when one of the two functions is used, to avoid a cycle.
        """
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
