"""A prompt with its answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A prompt, the answer wanted, and the name of the task it belongs to."""

    prompt: str
    answer: str
    task: str = ""
