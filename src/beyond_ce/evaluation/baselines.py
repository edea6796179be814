"""Baselines without a language model: the answers' mean or median, and a ridge regression.

They put a number on "has the model learned anything?": a model that is no better than the mean of
the training answers has learned how they are distributed, not how to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from sklearn import linear_model
from sklearn.feature_extraction.text import TfidfVectorizer

from beyond_ce.evaluation.metrics import Values, mse
from beyond_ce.settings import COUNT, each, number, takes


class Baseline(Protocol):
    """Predicts the number in an answer; `conf/baseline/` names such classes."""

    def fit(self, prompts: list[str], targets: Values) -> int:
        """Learn from training prompts and the numbers [N] of their answers, in their original unit;
        returns the number of fitted parameters."""
        ...

    def predict(self, prompts: list[str]) -> Values:
        """Numbers [N], one for each prompt."""
        ...


class Mean:
    """The mean of the training answers, whatever the prompt: the best constant in RMSE."""

    def fit(self, prompts: list[str], targets: Values) -> int:
        self.value = float(np.mean(targets))
        return 1

    def predict(self, prompts: list[str]) -> Values:
        return np.full(len(prompts), self.value)


class Median:
    """The median of the training answers, whatever the prompt: the best constant in MAE."""

    def fit(self, prompts: list[str], targets: Values) -> int:
        self.value = float(np.median(targets))
        return 1

    def predict(self, prompts: list[str]) -> Values:
        return np.full(len(prompts), self.value)


class Ridge:
    """Ridge regression on TF-IDF weights of words and pairs of words.

    The penalty is chosen on every tenth training example, and the regression then fitted to all.

    Args:
        alphas: penalties to choose among.
        max_features: words and pairs kept, the most frequent first.
    """

    @takes(
        "baseline",
        alphas=each(number(above=0)),
        max_features=COUNT,
    )
    def __init__(self, alphas: Sequence[float], max_features: int) -> None:
        self.alphas = list(alphas)
        self.weights = TfidfVectorizer(
            ngram_range=(1, 2), min_df=2, max_features=max_features, sublinear_tf=True
        )

    def fit(self, prompts: list[str], targets: Values) -> int:
        features = self.weights.fit_transform(prompts)
        held_out = np.arange(len(targets)) % 10 == 9

        def error(alpha: float) -> float:
            regression = _ridge(alpha).fit(features[~held_out], targets[~held_out])
            return mse(regression.predict(features[held_out]), targets[held_out])

        self.alpha = min(self.alphas, key=error)
        self.regression = _ridge(self.alpha).fit(features, targets)
        return self.regression.coef_.size + 1

    def predict(self, prompts: list[str]) -> Values:
        return self.regression.predict(self.weights.transform(prompts))


def _ridge(alpha: float) -> linear_model.Ridge:
    # The solver that fits an intercept to sparse features; it is deterministic.
    return linear_model.Ridge(alpha=alpha, solver="sparse_cg")
