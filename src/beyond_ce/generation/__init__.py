"""Decoding: from prompts to new tokens, from questions to answers."""

from beyond_ce.generation.answer import answer
from beyond_ce.generation.generate import Generation, generate

__all__ = ["Generation", "answer", "generate"]
