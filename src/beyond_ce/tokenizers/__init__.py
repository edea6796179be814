"""Text to token ids and back, and the numeric values of the tokens."""

from beyond_ce.tokenizers.base import Tokenizer
from beyond_ce.tokenizers.bpe import BPETokenizer
from beyond_ce.tokenizers.byte import ByteTokenizer
from beyond_ce.tokenizers.digit import DigitTokenizer
from beyond_ce.tokenizers.pretrained import PretrainedTokenizer
from beyond_ce.tokenizers.regression_transformer import RegressionTransformerTokenizer
from beyond_ce.tokenizers.subword import SubwordTokenizer
from beyond_ce.tokenizers.xval import XValTokenizer

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "DigitTokenizer",
    "PretrainedTokenizer",
    "RegressionTransformerTokenizer",
    "SubwordTokenizer",
    "Tokenizer",
    "XValTokenizer",
]
