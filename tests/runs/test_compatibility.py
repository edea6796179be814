"""Tokenizers, models, heads and losses that do not fit are named in one line, before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from beyond_ce.configuration import compose
from beyond_ce.errors import UsageError
from beyond_ce.runs.compatibility import check_parts
from beyond_ce.runs.experiment import run

XVAL = ["tokenizer=xval", "model=xval_tiny", "head=xval", "loss=xval"]


@pytest.mark.parametrize(
    "choices",
    [
        [],
        ["loss=ntl_was", "model=decoder_tiny"],
        ["head=regression", "loss=mse"],
        ["head=regression_log", "loss=mse", "model=decoder_tiny"],
        XVAL,
    ],
)
def test_what_fits(choices: list[str]) -> None:
    check_parts(compose(choices))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["head=regression"], r"CrossEntropy.*RegressionHead.*choose loss=mse or head=lm"),
        (["loss=mse"], r"MeanSquaredError.*LMHead.*choose loss=ce or head=regression"),
        (["loss=xval"], r"XValLoss.*LMHead.*choose loss=ce or head=xval"),
        (["tokenizer=xval"], r"XValTokenizer.*T5.*model=xval_tiny or tokenizer=digit"),
        (["model=xval_tiny"], r"XVal.*DigitTokenizer.*tokenizer=xval or model=t5_tiny"),
        (["head=xval"], r"XValHead.*T5.*head=lm or model=xval_tiny"),
        ([*XVAL, "head=lm"], r"LMHead.*XVal.*head=xval or model=t5_tiny"),
        ([*XVAL, "head=regression"], r"RegressionHead.*XVal.*head=xval or model=t5_tiny"),
        ([*XVAL, "loss=ce"], r"CrossEntropy.*XValHead.*loss=xval or head=lm"),
        ([*XVAL, "loss=mse"], r"MeanSquaredError.*XValHead.*loss=xval or head=regression"),
    ],
)
def test_what_does_not_fit(choices: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        check_parts(compose(choices))
    assert "\n" not in str(error.value)


def test_a_run_fails_before_it_starts(
    smoke_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="loss=mse"):
        run(smoke_config("head=regression"))
    assert not (tmp_path / "results").exists()


def test_a_class_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="loss: .*Nothing"):
        check_parts(compose(["loss._target_=beyond_ce.losses.Nothing"]))
