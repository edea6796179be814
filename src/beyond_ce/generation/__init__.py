"""Decoding: from prompts to new tokens, from questions to answers."""

from beyond_ce.generation.answer import answer
from beyond_ce.generation.generate import Generation, generate, longest_continuation
from beyond_ce.generation.live import LivePrinter
from beyond_ce.generation.stopping import StopTexts, before, continuation

__all__ = [
    "Generation",
    "LivePrinter",
    "StopTexts",
    "answer",
    "before",
    "continuation",
    "generate",
    "longest_continuation",
]
