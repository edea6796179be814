from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from beyond_ce.reproduction.measurements.decision_terms import (
    DecisionTerms,
    wrong_terms_per_decision,
)


@pytest.mark.parametrize("n", range(1, 17))
def test_a_choice_point_alone_and_an_inconsequential_decision(n: int) -> None:
    simulation = DecisionTerms(distances=[1, 2, 8], branches=[1, 4], alone=32)
    metrics = simulation.measure(OmegaConf.create({"head": {"n": n}}), 0)["metrics"]
    assert metrics["terms/choice"] == n * (n + 1) // 2
    assert metrics["terms/branch_1"] == n
    assert metrics["terms/choice_over_inconsequential"] == (n + 1) / 2


@pytest.mark.parametrize("n", [1, 2, 5, 16])
@pytest.mark.parametrize("distance", [1, 2, 3, 8, 20])
def test_choice_points_that_are_near_each_other_share_terms(n: int, distance: int) -> None:
    """The prediction of head i spans i places, and is wrong once if any is a choice point."""
    expected = sum(min(i, distance) for i in range(1, n + 1))
    assert wrong_terms_per_decision(n, distance, distance) == expected
