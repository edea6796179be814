"""How many terms of the loss a decision makes wrong, by simulation (MTP, figures 9 and S17)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig

from beyond_ce.analysis.choice_points import wrong_terms
from beyond_ce.reproduction.measurement import RowByRow


class DecisionTerms(RowByRow):
    """The simulation behind table mtp-figs17: a text with decisions at regular distances, and a
    model that errs at all of them.

    Args:
        distances: tokens from one choice point to the next.
        branches: tokens of the wrong branch of a decision that is far from the others; 1 for an
            inconsequential one.
        alone: a distance at which decisions do not meet: at least the number of heads, and as long
            as the branches.
    """

    def __init__(self, distances: Sequence[int], branches: Sequence[int], alone: int) -> None:
        self.distances = distances
        self.branches = branches
        self.alone = alone

    def measure(self, config: DictConfig, repeat: int) -> dict[str, Any]:
        start = time.perf_counter()
        n = config.head.n
        # The branch of a choice point never ends: here, not before the next one.
        terms: dict[str, float] = {
            f"choice_every_{distance}": wrong_terms_per_decision(n, distance, distance)
            for distance in self.distances
        }
        terms["choice"] = wrong_terms_per_decision(n, self.alone, self.alone)
        for branch in self.branches:
            terms[f"branch_{branch}"] = wrong_terms_per_decision(n, self.alone, branch)
        terms["choice_over_inconsequential"] = terms["choice"] / terms["branch_1"]
        return {
            "metrics": {f"terms/{name}": float(value) for name, value in terms.items()},
            "parameters": 0,
            "steps": 0,
            "samples": 0,
            "wall_clock_s": time.perf_counter() - start,
            "threads": torch.get_num_threads(),
        }


def wrong_terms_per_decision(n: int, distance: int, branch: int) -> int:
    """Wrong terms between one decision and the next, far from the ends of a text."""
    before = distance * (n // distance + 1)
    length = 2 * before + distance
    wrong = wrong_terms(n, length, {place: branch for place in range(0, length, distance)})
    return int(wrong[before : before + distance].sum())
