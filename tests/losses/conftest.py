"""A small vocabulary with digits, all losses from their YAML files, and a float64 brute force."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from beyond_ce.losses import Loss

CONFIGS = Path(__file__).parents[2] / "conf" / "loss"
NAMES = [
    "ce",
    "ntl_was",
    "ntl_mse",
    "ntl_mae",
    "ntl_huber",
    "ntl_was_cdf",
    "ntl_was_reweigh",
    "ntl_mse_reweigh",
    "ntl_number_level",
    "gce",
    "gce_ntl_was",
]
V, PADDED = 20, 23
DIGITS = [11, 3, 4, 5, 6, 7, 8, 9, 15, 2]  # token of digit d, deliberately out of order


class Lab:
    """Builds losses and inputs."""

    names = NAMES
    digits = DIGITS
    padded = PADDED

    def number_values(self, dtype: torch.dtype = torch.float64) -> Tensor:
        values = torch.full((V,), torch.nan, dtype=dtype)
        values[DIGITS] = torch.arange(10, dtype=dtype)
        return values

    def loss(self, name: str, number_values: Tensor | None = None, **settings: object) -> Loss:
        config = OmegaConf.merge(OmegaConf.load(CONFIGS / f"{name}.yaml"), settings)
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

    def brute_force(self, name: str, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """Every term by loops over positions in numpy float64."""
        from scipy.stats import wasserstein_distance

        token_of_value = dict(enumerate(DIGITS))
        value_of_token = {token: value for value, token in token_of_value.items()}
        values = np.arange(10.0)
        first, ntl = [], []
        for x, label in zip(
            logits.detach().flatten(0, 1).double().numpy(), labels.flatten().tolist(), strict=True
        ):
            if label == -100:
                continue
            log_p = x - np.log(np.exp(x - x.max()).sum()) - x.max()
            target = np.zeros(len(x))
            target[label] = 1.0
            q = np.zeros(10)
            if label in value_of_token:
                y = value_of_token[label]
                q[y] = 1.0
                if name.startswith("gce"):
                    q = np.exp(-((values - y) ** 2) / 2)
                    q /= q.sum()
                    target[label] = 0.0
                    target[DIGITS] = q
                p = np.exp(x[DIGITS] - x[DIGITS].max())
                p /= p.sum()
                gap = abs(p @ values - y)
                term = {
                    "ntl_mse": gap**2,
                    "ntl_mse_reweigh": gap**2,
                    "ntl_mae": gap,
                    "ntl_huber": gap**2 / 2 if gap < 1 else gap - 0.5,
                }.get(name, wasserstein_distance(values, values, p, q))
                if name.endswith("reweigh"):
                    mass = np.exp(log_p[DIGITS]).sum()
                    worst = {"ntl_was_reweigh": 9, "ntl_mse_reweigh": 81}[name]
                    term = mass * term + (1 - mass) * 1.01 * worst
                ntl.append(term)
            first.append(-(target * log_p).sum())
        terms = {"gce" if name.startswith("gce") else "ce": float(np.mean(first))}
        if name == "ntl_number_level":
            ntl = self.brute_force_numbers(logits, labels)
        if name not in ("ce", "gce"):
            terms["ntl"] = float(np.mean(ntl))
        return terms

    def brute_force_numbers(
        self, logits: Tensor, labels: Tensor, point: int | None = None
    ) -> list[float]:
        """Relative error of each whole number, from spelling it out; `point` is a token."""
        errors = []
        for row, row_labels in zip(logits.detach().double(), labels.tolist(), strict=True):
            spelled = "".join(
                str(DIGITS.index(i)) if i in DIGITS else "." if i == point else " "
                for i in row_labels
            )
            for match in re.finditer(r"\d+(\.\d+)*", spelled):
                places = [t for t in range(*match.span()) if spelled[t] != "."]
                expected = [row[t, DIGITS].softmax(0) @ torch.arange(10.0).double() for t in places]
                y = sum(int(spelled[t]) * 10.0**-i for i, t in enumerate(places))
                yhat = sum(float(e) * 10.0**-i for i, e in enumerate(expected))
                errors.append(abs(yhat - y) / (yhat + y + np.finfo(float).eps))
        return errors


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
