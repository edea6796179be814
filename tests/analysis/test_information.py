from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from beyond_ce.analysis.information import Array, Information, decompose

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5))


@st.composite
def joints(draw: st.DrawFn, count: int, zeros: bool = False) -> list[Array]:
    """`count` distributions [A, B]."""
    shape = draw(SHAPES)
    weights = st.floats(1e-3, 1)
    drawn = [draw(arrays(float, shape, elements=weights)) for _ in range(count)]
    if zeros:
        drawn[0] = drawn[0] * draw(arrays(float, shape, elements=st.sampled_from([0.0, 1.0])))
        drawn[0].flat[0] += 1e-3
    return [values / values.sum() for values in drawn]


def by_loops(p: Array, q: Array, q_x: Array, q_y: Array) -> dict[str, float]:
    """The definitions of MTP section 5.2 and L.2, one pair at a time."""
    terms = dict.fromkeys(Information.__annotations__, 0.0)
    for x in range(p.shape[0]):
        for y in range(p.shape[1]):
            if p[x, y] == 0:
                continue
            terms["x"] -= p[x, y] * math.log(q_x[x])
            terms["y"] -= p[x, y] * math.log(q_y[y])
            terms["x_given_y"] -= p[x, y] * math.log(q[x, y] / q_y[y])
            terms["y_given_x"] -= p[x, y] * math.log(q[x, y] / q_x[x])
            # D(p || q_X x q_Y) - D(p || q)
            terms["mutual"] += p[x, y] * math.log(p[x, y] / (q_x[x] * q_y[y]))
            terms["mutual"] -= p[x, y] * math.log(p[x, y] / q[x, y])
    return terms


@given(joints(2, zeros=True))
def test_every_term_is_its_definition(pair: list[Array]) -> None:
    p, q = pair
    terms = decompose(p, q)
    for name, value in by_loops(p, q, q.sum(1), q.sum(0)).items():
        assert getattr(terms, name) == pytest.approx(value, abs=1e-12)


@given(joints(3))
def test_the_models_own_marginals_count(three: list[Array]) -> None:
    p, q, other = three
    terms = decompose(p, q, q_x=other.sum(1), q_y=other.sum(0))
    for name, value in by_loops(p, q, other.sum(1), other.sum(0)).items():
        assert getattr(terms, name) == pytest.approx(value, abs=1e-12)


@given(joints(2))
def test_both_losses_decompose_as_the_paper_says(pair: list[Array]) -> None:
    p, q = pair
    for t in (decompose(p), decompose(p, q), decompose(p, q, q_y=p.sum(0))):
        assert t.x == pytest.approx(t.x_given_y + t.mutual, abs=1e-12)
        assert t.y == pytest.approx(t.y_given_x + t.mutual, abs=1e-12)
        two_token = t.x_given_y + 2 * t.mutual + t.y_given_x
        assert t.x + t.y == pytest.approx(two_token, abs=1e-12)
        next_token = t.x_given_y + t.mutual + t.y_given_x
        assert t.x + t.y_given_x == pytest.approx(next_token, abs=1e-12)


@given(joints(1, zeros=True))
def test_entropies_are_scipys(one: list[Array]) -> None:
    (p,) = one
    terms = decompose(p)
    assert terms.x == pytest.approx(stats.entropy(p.sum(1)), abs=1e-12)
    assert terms.y == pytest.approx(stats.entropy(p.sum(0)), abs=1e-12)
    joint = stats.entropy(p.flatten())
    assert terms.x + terms.y_given_x == pytest.approx(joint, abs=1e-12)
    outer = np.outer(p.sum(1), p.sum(0))
    divergence = stats.entropy(p.flatten(), outer.flatten())
    assert terms.mutual == pytest.approx(divergence, abs=1e-12)


def test_relative_mutual_information_may_be_negative() -> None:
    p = np.array([[0.5, 0.0], [0.0, 0.5]])
    q = np.array([[0.1, 0.4], [0.4, 0.1]])  # believes in the opposite
    terms = decompose(p, q)
    assert terms.mutual == pytest.approx(math.log(0.1 / 0.25))
    assert decompose(p).mutual == pytest.approx(math.log(2))


def test_contexts_are_independent() -> None:
    draw = np.random.default_rng(0)
    p, q = (draw.dirichlet(np.ones(12), 5).reshape(5, 3, 4) for _ in range(2))
    together = decompose(p, q)
    for i in range(5):
        alone = decompose(p[i], q[i])
        for name in Information.__annotations__:
            assert getattr(together, name)[i] == pytest.approx(getattr(alone, name), abs=1e-14)


def test_what_the_model_excludes_costs_infinitely_much() -> None:
    terms = decompose(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]))
    assert terms.y == math.inf
    assert terms.x == 0


@pytest.mark.parametrize(
    ("q", "q_x", "error"),
    [
        ([[0.5, 0.4]], None, "q is no distribution"),
        ([[1.5, -0.5]], None, "q is no distribution"),
        ([[1.0, 0.0]], [0.5], "q_x is no distribution"),
        ([[1.0]], None, "do not fit"),
        ([[1.0, 0.0]], [0.5, 0.5], "do not fit"),
    ],
)
def test_what_is_no_distribution_is_refused(
    q: list[list[float]], q_x: list[float] | None, error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        decompose(np.array([[0.5, 0.5]]), np.array(q), None if q_x is None else np.array(q_x))
