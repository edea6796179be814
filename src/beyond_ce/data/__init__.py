"""Prompt/answer data sets: generated or read once, kept as Arrow files."""

from beyond_ce.data.arithmetic import Arithmetic
from beyond_ce.data.example import Example, PromptAnswerData
from beyond_ce.data.mathematics import Mathematics

__all__ = ["Arithmetic", "Example", "Mathematics", "PromptAnswerData"]
