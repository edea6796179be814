from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.analysis.choice_points import terms, wrong_terms

FOREVER = 10**6


@pytest.mark.parametrize("n", range(1, 17))
def test_the_papers_counts(n: int) -> None:
    """n (n + 1) / 2 for a choice point and n for an inconsequential decision."""
    length, place = 4 * n, 2 * n
    choice = wrong_terms(n, length, {place: FOREVER})
    assert choice[: place + 1].sum() == terms(n, FOREVER) == n * (n + 1) // 2
    inconsequential = wrong_terms(n, length, {place: 1})
    assert inconsequential.sum() == terms(n, 1) == n


@given(st.integers(1, 16), st.integers(1, 20))
def test_every_branch_between_the_two(n: int, branch: int) -> None:
    wrong = wrong_terms(n, 2 * n + branch, {n: branch})
    assert wrong[: n + 1].sum() == terms(n, branch)
    assert terms(n, branch) == sum(n - i for i in range(min(n, branch)))


@given(st.integers(1, 12), st.integers(1, 14))
def test_choice_points_that_are_close_share_terms(n: int, distance: int) -> None:
    """Where two are nearer than n tokens, a prediction from before the first spans both."""
    first = 2 * n
    wrong = wrong_terms(n, 4 * n + distance, {first: FOREVER, first + distance: FOREVER})
    shared = max(n - distance, 0)
    seen = wrong[: first + distance + 1].sum()
    assert seen == n * (n + 1) - shared * (shared + 1) // 2


def test_a_walk_comes_back_to_the_text() -> None:
    wrong = wrong_terms(3, 6, {2: 2})
    assert wrong.astype(int).tolist() == [
        [0, 0, 1],
        [0, 1, 1],
        [1, 1, 0],
        [0, 0, 0],  # the true text is given: it has not erred here
        [0, 0, 0],
        [0, 0, 0],
    ]


def test_terms_end_with_the_text() -> None:
    assert wrong_terms(4, 5, {4: FOREVER}).sum() == 4
    assert wrong_terms(4, 5, {0: FOREVER}).sum() == 4
    assert not wrong_terms(4, 5, {}).any()
