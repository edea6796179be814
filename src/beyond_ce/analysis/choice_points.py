"""How many terms of an n-token loss a wrong decision makes wrong (MTP paper, sections 5.1 and L.3).

Teacher-forced, a model sees the true text before each position and predicts the n tokens after it.
If it errs at a decision, its later tokens follow from the wrong one until the two branches meet
again, if they do: these are wrong as well. After a choice point they never meet, and n (n + 1) / 2
terms are wrong; after an inconsequential decision they meet at once, and n terms are: one for every
head that predicts the token itself. In general, with branches of r tokens, the terms are

    n + (n - 1) + ... = r n - r (r - 1) / 2 for r <= n.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def terms(n: int, branch: int) -> int:
    """The closed form for a decision whose branches have `branch` tokens, the decision's included,
    and that is at least n tokens away from the others and from the ends of the text."""
    r = min(n, branch)
    return r * n - r * (r - 1) // 2


def wrong_terms(n: int, length: int, decisions: Mapping[int, int]) -> NDArray[np.bool_]:
    """Which terms of the loss are wrong for a model that errs at every decision.

    Walks through all predictions one token at a time.

    Args:
        n: heads.
        length: tokens of the text.
        decisions: place of a decision -> tokens of its wrong branch, the first one included.

    Returns:
        bool [length, n]: whether head i + 1, which sees the tokens before place t, is wrong about
        token t + i. Terms beyond the text's end do not exist and are not wrong.
    """
    wrong = np.zeros((length, n), bool)
    for t in range(length):
        returns = t  # the first place where the walk is on the true text again
        for i, place in enumerate(range(t, min(t + n, length))):
            # On the wrong branch the walk does not get to the text's own decisions.
            if place >= returns and place in decisions:
                returns = place + decisions[place]
            wrong[t, i] = place < returns
    return wrong
