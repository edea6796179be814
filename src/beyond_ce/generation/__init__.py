"""Decoding: from prompts to new tokens."""

from beyond_ce.generation.generate import Generation, generate

__all__ = ["Generation", "generate"]
