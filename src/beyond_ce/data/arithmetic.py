"""Long sums, the data of the NTL paper's ablations (tables 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from beyond_ce.data.generation import Stream
from beyond_ce.data.mathematics import Mathematics
from beyond_ce.errors import UsageError
from beyond_ce.settings import optional, span, takes

# The generator takes milliseconds for a question with 20, seconds with 30, and for ever with more.
_MOST_OPERATIONS = 20


class Arithmetic(Mathematics):
    """Additions and subtractions of integers in brackets; "extrapolate" has longer expressions.

    `What is -5 + (12 - 2) - -1?` -> `6`. The paper takes 33,333 training and 1,000 validation
    pairs of each difficulty.

    Args:
        operations: minimum and maximum number of operations in a question, to make the task easier
            than the generator's own (3 to 6). The test splits follow: "interpolate" then has
            held-out questions of the training difficulties, "extrapolate" has questions with one
            operation more than the maximum. null keeps the generator's own lengths.
    """

    name = "arithmetic"
    categories = ("arithmetic__add_sub_multiple",)
    extrapolation = ("arithmetic__add_sub_multiple_longer",)

    @takes(
        "dataset",
        operations=optional(span(1, _MOST_OPERATIONS)),
    )
    def __init__(self, *, operations: Sequence[int] | None = None, **kwargs: Any) -> None:
        self.operations = None if operations is None else (operations[0], operations[1])
        super().__init__(**kwargs)
        if self.operations is not None and self.path is not None:
            raise UsageError(
                "dataset.operations is for generated questions, but dataset.path reads them from "
                "files: set one of the two to null"
            )

    def _definition(self) -> dict[str, Any]:
        return super()._definition() | {"operations": self.operations}

    def _plan(self) -> list[Stream]:
        if self.operations is None:
            return super()._plan()
        more = self.operations[1] + 1
        share = -(-self.sizes["test_size"] // len(self.difficulties))
        tests = [
            Stream(split, f"train-{level}", self.categories[0], share, operations)
            for split, operations in (
                ("interpolate", self.operations),
                ("extrapolate", (more, more)),
            )
            for level in self.difficulties
        ]
        rest = [s for s in super()._plan() if s.split in ("validation", "train")]
        return [*tests, *(replace(stream, operations=self.operations) for stream in rest)]
