"""A small vocabulary with digits, every loss from its YAML file, and a float64 brute force."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from choices import CONF
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.stats import wasserstein_distance
from torch import Tensor

from beyond_ce.losses import Loss

V, PADDED = 20, 23
DIGITS = [11, 3, 4, 5, 6, 7, 8, 9, 15, 2]  # token of digit d, deliberately out of order
VALUES = np.arange(10.0)


class Position:
    """One label that is not ignored and the logits [V'] there."""

    def __init__(self, logits: np.ndarray, label: int) -> None:
        self.label = label
        self.y = DIGITS.index(label) if label in DIGITS else None
        """The label's value, None for a word."""
        self.log_p = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        """Log-probabilities [V'] under the softmax over all columns."""
        digits = np.exp(logits[DIGITS] - logits[DIGITS].max())
        self.p = digits / digits.sum()
        """Probabilities [10] of the values under the softmax over the digits alone."""

    def smoothed(self) -> np.ndarray:
        """The label's target [10] for a sigma of 1."""
        q = np.exp(-((VALUES - self.y) ** 2) / 2)
        return q / q.sum()


def ce(at: Position) -> float:
    return -at.log_p[at.label]


def gce(at: Position) -> float:
    return ce(at) if at.y is None else -(at.smoothed() @ at.log_p[DIGITS])


def was(at: Position) -> float:
    return wasserstein_distance(VALUES, [at.y], at.p)


def was_to_smoothed(at: Position) -> float:
    return wasserstein_distance(VALUES, VALUES, at.p, at.smoothed())


def mae(at: Position) -> float:
    return abs(at.p @ VALUES - at.y)


def mse(at: Position) -> float:
    return mae(at) ** 2


def huber(at: Position) -> float:
    return mse(at) / 2 if mae(at) < 1 else mae(at) - 0.5


def reweighed(distance: Callable[[Position], float], worst: float) -> Callable[[Position], float]:
    def ntl(at: Position) -> float:
        mass = np.exp(at.log_p[DIGITS]).sum()
        return mass * distance(at) + (1 - mass) * 1.01 * worst

    return ntl


def number_level(logits: Tensor, labels: Tensor, point: int | None = None) -> list[float]:
    """Relative error of each whole number, from spelling it out; `point` is a token."""
    errors = []
    for row, row_labels in zip(logits.detach().double(), labels.tolist(), strict=True):
        spelled = "".join(
            str(DIGITS.index(i)) if i in DIGITS else "." if i == point else " " for i in row_labels
        )
        for match in re.finditer(r"\d+(\.\d+)*", spelled):
            places = [t for t in range(*match.span()) if spelled[t] != "."]
            expected = [row[t, DIGITS].softmax(0) @ torch.arange(10.0).double() for t in places]
            y = sum(int(spelled[t]) * 10.0**-i for i, t in enumerate(places))
            yhat = sum(float(e) * 10.0**-i for i, e in enumerate(expected))
            errors.append(abs(yhat - y) / (yhat + y + np.finfo(float).eps))
    return errors


# From logits [B, T, V'] and labels [B, T] to the values that a term is the mean of.
Term = Callable[[Tensor, Tensor], list[float]]


def positions(logits: Tensor, labels: Tensor) -> list[Position]:
    rows = logits.detach().flatten(0, -2).double().numpy()
    labelled = zip(rows, labels.flatten().tolist(), strict=True)
    return [Position(row, label) for row, label in labelled if label != -100]


def over_all(value: Callable[[Position], float]) -> Term:
    return lambda logits, labels: [value(at) for at in positions(logits, labels)]


def over_numbers(value: Callable[[Position], float]) -> Term:
    return lambda logits, labels: [
        value(at) for at in positions(logits, labels) if at.y is not None
    ]


# Every loss on tokens: its terms by name, the first with weight 1 and the others with `weight`.
BRUTE_FORCE: dict[str, dict[str, Term]] = {
    "ce": {"ce": over_all(ce)},
    "gce": {"gce": over_all(gce)},
    "gce_ntl_was": {"gce": over_all(gce), "ntl": over_numbers(was_to_smoothed)},
    "ntl_huber": {"ce": over_all(ce), "ntl": over_numbers(huber)},
    "ntl_mae": {"ce": over_all(ce), "ntl": over_numbers(mae)},
    "ntl_mse": {"ce": over_all(ce), "ntl": over_numbers(mse)},
    "ntl_mse_reweigh": {"ce": over_all(ce), "ntl": over_numbers(reweighed(mse, 81))},
    "ntl_number_level": {"ce": over_all(ce), "ntl": number_level},
    "ntl_was": {"ce": over_all(ce), "ntl": over_numbers(was)},
    "ntl_was_cdf": {"ce": over_all(ce), "ntl": over_numbers(was)},
    "ntl_was_reweigh": {"ce": over_all(ce), "ntl": over_numbers(reweighed(was, 9))},
}


@dataclass(frozen=True)
class Expected:
    total: float
    terms: dict[str, float]


class Lab:
    """Builds losses and inputs."""

    digits = DIGITS
    padded = PADDED

    def number_values(self, dtype: torch.dtype = torch.float64) -> Tensor:
        values = torch.full((V,), torch.nan, dtype=dtype)
        values[DIGITS] = torch.arange(10, dtype=dtype)
        return values

    def loss(self, name: str, number_values: Tensor | None = None, **settings: object) -> Loss:
        config = OmegaConf.merge(OmegaConf.load(CONF / "loss" / f"{name}.yaml"), settings)
        values = self.number_values() if number_values is None else number_values
        try:
            return instantiate(config, number_values=values)
        except InstantiationException as error:
            raise error.__cause__ or error from None  # what the loss itself said

    def batch(self, seed: int = 0, rows: tuple[int, int] = (3, 8)) -> tuple[Tensor, Tensor]:
        """Float64 logits and labels with digits, words, padding columns and ignored positions."""
        generator = torch.Generator().manual_seed(seed)
        logits = 3 * torch.randn(*rows, PADDED, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, PADDED, rows, generator=generator)
        labels[0, ::2] = torch.tensor(DIGITS)[torch.arange(len(labels[0, ::2])) % 10]
        labels[-1, -3:] = -100
        return logits.requires_grad_(), labels

    def brute_force(self, name: str, logits: Tensor, labels: Tensor) -> Expected:
        """The loss of conf/loss/<name>.yaml, position by position in numpy float64."""
        if name not in BRUTE_FORCE:
            pytest.fail(
                f"conf/loss/{name}.yaml has no brute force: write it in tests/losses/conftest.py",
                pytrace=False,
            )
        terms = {
            term: float(np.mean(values(logits, labels)))
            for term, values in BRUTE_FORCE[name].items()
        }
        first, *others = terms.values()
        weight = OmegaConf.load(CONF / "loss" / f"{name}.yaml").get("weight", 1.0)
        return Expected(first + weight * sum(others), terms)

    def brute_force_numbers(
        self, logits: Tensor, labels: Tensor, point: int | None = None
    ) -> list[float]:
        return number_level(logits, labels, point)


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()


@pytest.fixture(scope="session")
def authors_tokenizer():
    """The lab's vocabulary for the authors' package; token 0 is "."."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = {f"w{i}": i for i in range(1, V) if i not in DIGITS} | {".": 0}
    words |= {str(value): token for value, token in enumerate(DIGITS)}
    model = tokenizers.models.WordLevel(words, unk_token="w1")
    fast = tokenizers.Tokenizer(model)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=fast)
