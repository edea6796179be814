"""Text to token ids and back, and the numbers that a vocabulary holds."""

from beyond_ce.tokenizers.base import Tokenizer
from beyond_ce.tokenizers.digit import DigitTokenizer
from beyond_ce.tokenizers.subword import SubwordTokenizer

__all__ = ["DigitTokenizer", "SubwordTokenizer", "Tokenizer"]
