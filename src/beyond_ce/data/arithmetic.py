"""Long sums, the data of the NTL paper's ablations (tables 2 and 3)."""

from __future__ import annotations

from beyond_ce.data.mathematics import Mathematics


class Arithmetic(Mathematics):
    """Additions and subtractions of integers in brackets; extrapolates to longer ones.

    `What is -5 + (12 - 2) - -1?` -> `6`. The paper takes 33,333 training and 1,000 validation
    pairs of each difficulty.
    """

    name = "arithmetic"
    categories = ("arithmetic__add_sub_multiple",)
    extrapolation = ("arithmetic__add_sub_multiple_longer",)
