"""Text to token ids and back, and the numbers that a vocabulary holds."""

from beyond_ce.tokenizers.base import Tokenizer
from beyond_ce.tokenizers.digit import DigitTokenizer
from beyond_ce.tokenizers.pretrained import PretrainedTokenizer
from beyond_ce.tokenizers.regression_transformer import RegressionTransformerTokenizer
from beyond_ce.tokenizers.subword import SubwordTokenizer
from beyond_ce.tokenizers.xval import XValTokenizer

__all__ = [
    "DigitTokenizer",
    "PretrainedTokenizer",
    "RegressionTransformerTokenizer",
    "SubwordTokenizer",
    "Tokenizer",
    "XValTokenizer",
]
