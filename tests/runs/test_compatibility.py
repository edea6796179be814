"""Choices that do not fit are named in one line, before any work."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from choices import choices, settings, target
from hydra.utils import get_class
from omegaconf import DictConfig

from beyond_ce.configuration import compose
from beyond_ce.data import PackedAnswers, PackedData, PackedPrograms, ProgramData
from beyond_ce.data.languages import Language
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import Evaluators
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
        (
            ["loss=ntl_was", "trainer.precision=bf16-true"],
            r"bf16-true rounds the numbers that loss WassersteinLoss.*bf16-mixed, or choose",
        ),
        ([*XVAL, "loss=mse"], r"MeanSquaredError.*XValHead.*loss=xval or head=regression"),
        (
            [
                "model=causal_lm",
                "head=multi_token_linear",
                "head.n=2",
                "dataset=python_source",
                "evaluator=self_speculation",
                "tokenizer=byte",
            ],
            r"SelfSpeculation decodes with all 2 heads, and model CausalLM with one only",
        ),
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


@cache
def with_evaluator(evaluator: str) -> DictConfig:
    return compose([f"evaluator={evaluator}"])


def paired(dataset: str, evaluator: str) -> DictConfig:
    config = with_evaluator(evaluator).copy()
    config.dataset = settings("dataset", dataset)
    return config


@pytest.mark.parametrize("evaluator", choices("evaluator"))
@pytest.mark.parametrize("dataset", choices("dataset"))
def test_every_evaluator_fits_a_data_set_or_names_what_does(dataset: str, evaluator: str) -> None:
    config = paired(dataset, evaluator)
    data = get_class(config.dataset._target_)
    has = {"problem"} if issubclass(data, ProgramData | PackedPrograms) else set()
    has.add("text" if issubclass(data, PackedData) else "answer")
    has |= {"answer"} if issubclass(data, PackedAnswers) else set()
    has |= {"structure"} if issubclass(data, Language) else set()
    parts = set(evaluator.split("_and_"))
    of_text = {"held_out", "self_speculation", "speculation", "induction"}
    of_text |= {"likely_choice_points", "relative_information"}
    needs = {"text"} if parts & of_text else set()
    needs |= {"text", "structure"} if parts & {"choice_points", "markov_information"} else set()
    needs |= {"problem"} if parts & {"programs", "programs_with_whitespace"} else set()
    with_data = {"humaneval", "mbpp", "apps", "code_contests"}
    with_data |= {"benchmarks", "benchmarks_with_whitespace", "choices", "word_problems"}
    if not needs and not parts & with_data:
        needs = {"answer"}
    if needs <= has:
        check_parts(config)
        return
    with pytest.raises(UsageError) as error:
        check_parts(config)
    message = str(error.value)
    for group in ("dataset", "evaluator"):
        assert f"{group} {config[group]._target_.rpartition('.')[2]} " in message
    suggested = re.search(r"choose evaluator=(\w+) or dataset=(\w+)$", message)
    assert suggested
    check_parts(paired(dataset, suggested[1]))
    check_parts(paired(suggested[2], evaluator))


@pytest.mark.parametrize("baseline", [[], ["baseline=mean"]])
@pytest.mark.parametrize("evaluator", ["held_out", "held_out_and_speculation"])
def test_an_evaluator_of_something_else_is_refused_before_data_are_made(
    smoke_config: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    baseline: list[str],
    evaluator: str,
) -> None:
    monkeypatch.setattr(
        "beyond_ce.data.Arithmetic.load", lambda self: pytest.fail("the data were made")
    )
    config = smoke_config(*baseline)
    config.evaluator = with_evaluator(evaluator).evaluator
    with pytest.raises(UsageError, match="reads 'text', which dataset Arithmetic"):
        run(config)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("evaluator", choices("evaluator"))
def test_a_baseline_needs_an_evaluator_of_numbers(evaluator: str) -> None:
    config = compose([f"evaluator={evaluator}", "baseline=mean"])
    if evaluator == "number_answers":
        check_parts(config)
        return
    reads = target("evaluator", evaluator).reads(config.evaluator)
    if "text" in reads or "problem" in reads:
        packed = "code_tasks_packed" if "problem" in reads else "python_source"
        packed = "choice_language" if "structure" in reads else packed
        config.dataset = settings("dataset", packed if "text" in reads else "code_tasks")
    with pytest.raises(UsageError, match=r"baseline Mean .* \w+ does not score.*number_answers$"):
        check_parts(config)


def test_what_several_evaluators_read() -> None:
    config = with_evaluator("number_answers_and_mass").evaluator
    assert Evaluators.reads(config) == ("prompt", "answer")
    both = {"evaluators": {**config.evaluators, "x": with_evaluator("held_out").evaluator}}
    assert Evaluators.reads(both) == ("prompt", "answer", "text")
    broken = compose(
        [
            "evaluator=number_answers_and_mass",
            "evaluator.evaluators.number_mass._target_=beyond_ce.evaluation.Nothing",
        ]
    )
    with pytest.raises(UsageError, match=r"evaluator: .*Nothing"):
        check_parts(broken)
