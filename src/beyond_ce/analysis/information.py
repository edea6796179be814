"""What two-token prediction learns, in terms of information (MTP paper, section 5.2 and L.2).

X is the next token and Y the one after it, both after some context. With p the distribution of the
text and q the model's,

    H(X) + H(Y) = H(X|Y) + 2 I(X;Y) + H(Y|X),

while next-token prediction, H(X) + H(Y|X), has I(X;Y) only once. The paper's lemma L.2 says the
same of the cross-entropies of a model, with the relative mutual information

    I_p||q(X;Y) = D(p || q_X x q_Y) - D(p || q),

which may be negative. All values are in nats.

Shapes: ... any contexts, A values of X, B values of Y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_TOLERANCE = 1e-6  # of the sum of a distribution's probabilities


@dataclass(frozen=True)
class Information:
    """The terms of the decomposition, each [...]; for a model they are cross-entropies.

    Attributes:
        x, y: H(X) and H(Y).
        x_given_y, y_given_x: H(X|Y) and H(Y|X).
        mutual: I(X;Y).
    """

    x: Array
    y: Array
    x_given_y: Array
    y_given_x: Array
    mutual: Array


def decompose(
    p: Array, q: Array | None = None, q_x: Array | None = None, q_y: Array | None = None
) -> Information:
    """The decomposition for the distribution `p` [..., A, B], and a model of it.

    For every p and q, `x = x_given_y + mutual` and `y = y_given_x + mutual`. Where q excludes what
    p contains, terms are infinite.

    Args:
        q: the model's joint distribution [..., A, B]; None for `p` itself, which gives the
            entropies.
        q_x, q_y: the model's distributions of X [..., A] and Y [..., B] where it predicts them by
            themselves, as heads 1 and 2 do; None for those of `q`. Conditional distributions are
            then quotients, q(x, y) / q_y(y) and q(x, y) / q_x(x), that need not add up to one.

    Raises:
        ValueError: one of them is no distribution, or their shapes differ.
    """
    q = p if q is None else q
    q_x = q.sum(-1) if q_x is None else q_x
    q_y = q.sum(-2) if q_y is None else q_y
    for name, values, size in (("p", p, 2), ("q", q, 2), ("q_x", q_x, 1), ("q_y", q_y, 1)):
        total = values.sum(tuple(range(-size, 0)))
        if (values < 0).any() or not np.allclose(total, 1, atol=_TOLERANCE):
            raise ValueError(f"{name} is no distribution: its probabilities must add up to 1")
    expected = (*p.shape[:-1],), (*p.shape[:-2], p.shape[-1])
    if q.shape != p.shape or (q_x.shape, q_y.shape) != expected:
        raise ValueError(f"p has shape {p.shape}, which q, q_x and q_y do not fit")
    # A sum of its own for every term: differences of large ones would lose digits, and inf - inf.
    x, y = _cross_entropy(p.sum(-1), q_x, 1), _cross_entropy(p.sum(-2), q_y, 1)
    outer = q_x[..., :, None] * q_y[..., None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        return Information(
            x=x,
            y=y,
            x_given_y=_cross_entropy(p, q / q_y[..., None, :], 2),
            y_given_x=_cross_entropy(p, q / q_x[..., :, None], 2),
            mutual=-_cross_entropy(p, q / outer, 2),
        )


def _cross_entropy(p: Array, q: Array, axes: int) -> Array:
    """-sum p log q over the last axes; 0 where p is 0, whatever q is."""
    terms = xlogy(p, np.where(p > 0, q, 1.0))
    total: Array = -terms.sum(tuple(range(-axes, 0)))
    return total
