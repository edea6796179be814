"""The row type of prompt/answer data sets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A prompt, its reference answer, and the name of its task."""

    prompt: str
    answer: str
    task: str = ""
