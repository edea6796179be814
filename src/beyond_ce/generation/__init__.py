"""Decoding: from prompts to new tokens, from questions to answers."""

from beyond_ce.generation.answer import answer
from beyond_ce.generation.generate import Generation, generate, longest_continuation
from beyond_ce.generation.live import LivePrinter

__all__ = ["Generation", "LivePrinter", "answer", "generate", "longest_continuation"]
