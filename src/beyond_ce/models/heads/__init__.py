"""Heads: from hidden states to logits."""

from beyond_ce.models.heads.base import Head
from beyond_ce.models.heads.lm import LMHead

__all__ = ["Head", "LMHead"]
