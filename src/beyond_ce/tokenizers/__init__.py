"""Text to token ids and back, and the numeric values of the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beyond_ce.tokenizers.base import Tokenizer
from beyond_ce.tokenizers.bpe import BPETokenizer
from beyond_ce.tokenizers.byte import ByteTokenizer
from beyond_ce.tokenizers.digit import DigitTokenizer
from beyond_ce.tokenizers.regression_transformer import RegressionTransformerTokenizer
from beyond_ce.tokenizers.subword import SubwordTokenizer
from beyond_ce.tokenizers.xval import XValTokenizer

if TYPE_CHECKING:
    from beyond_ce.tokenizers.pretrained import PretrainedTokenizer
else:

    def __getattr__(name: str) -> object:
        if name == "PretrainedTokenizer":  # transformers takes longer to import than torch
            from beyond_ce.tokenizers.pretrained import PretrainedTokenizer

            return PretrainedTokenizer
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
