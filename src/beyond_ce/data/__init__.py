"""Prompt/answer data sets: generated or read once, kept as Arrow files."""

from beyond_ce.data.arithmetic import Arithmetic
from beyond_ce.data.example import Example, PromptAnswerData
from beyond_ce.data.gsm8k import GSM8K
from beyond_ce.data.mathematics import Mathematics
from beyond_ce.data.multiplication import Multiplication
from beyond_ce.data.multirc import MultiRC
from beyond_ce.data.rjokes import RJokes

__all__ = [
    "GSM8K",
    "Arithmetic",
    "Example",
    "Mathematics",
    "MultiRC",
    "Multiplication",
    "PromptAnswerData",
    "RJokes",
]
