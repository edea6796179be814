"""A recipe's settings go away with the choice they belong to; what the user writes stays."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from choices import CONF, choices, settings, target
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from beyond_ce.configuration import check, compose, experiments
from beyond_ce.errors import RunError, UsageError
from beyond_ce.runs.checks import check_settings, try_parts
from beyond_ce.runs.compatibility import check_parts
from beyond_ce.runs.experiment import run

TRAIN = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
RECIPES = sorted(name for name, scales in experiments().items() if "smoke" in scales)
GROUPS = [
    *("dataset", "tokenizer", "model", "head", "loss", "optimizer", "scheduler", "trainer"),
    *("evaluator", "baseline", "probe", "selection", "logger"),
]
NEEDED = {
    "model=decoder_pretrained": ["model.pretrained=my-model"],
    "tokenizer=pretrained": ["tokenizer.model=name"],
    "dataset=hub_corpus": ["dataset.hub=name"],
    "dataset=own_text": ["dataset.writer.model=name"],
}


def keys(node: DictConfig) -> set[str]:
    return {str(key) for key in node}


@pytest.mark.parametrize(
    ("experiment", "choice"),
    [
        ("mtp/prose/smoke", "optimizer=adafactor"),
        ("mtp/prose/smoke", "scheduler=plateau"),
        ("mtp/code/smoke", "evaluator=held_out"),
        ("mtp/decoding/smoke", "head=lm"),
        ("mtp/bytes/smoke", "head=lm"),
        ("mtp/code/smoke", "dataset=rjokes"),
        ("mtp/bytes/smoke", "model=gpt2_tiny"),
        ("mtp/code/smoke", "tokenizer=digit"),
        ("ntl/gsm8k/smoke", "evaluator=number_mass"),
        ("ntl/multiplication/smoke", "evaluator=final_answer_and_mass"),
        ("ntl/multiplication/smoke", "evaluator=number_answers"),
    ],
)
def test_another_choice_has_the_keys_it_has_alone(experiment: str, choice: str) -> None:
    group = choice.partition("=")[0]
    config, alone = compose([f"experiment={experiment}", choice]), compose([choice])
    assert keys(config[group]) == keys(alone[group])
    nested = config[group].get("evaluators", {})
    assert all("_target_" in part for part in nested.values())


def test_a_setting_that_the_other_choice_has_stays() -> None:
    recipe = ["experiment=ntl/rjokes/cpu"]
    for tokenizer in ("digit", "subword", "sentencepiece"):
        assert compose([*recipe, f"tokenizer={tokenizer}"]).tokenizer.vocab_size == 4096
    assert compose([*recipe, "scheduler=constant"]).scheduler.warmup_steps == 100
    assert compose(["experiment=mtp/code/cpu", "dataset=text_files"]).dataset.sequence_length == 512


def test_what_a_choice_stands_for_is_not_the_recipes() -> None:
    llama = ["experiment=mtp/code/cpu"]
    assert compose(llama).optimizer.lr == 4e-3
    assert compose([*llama, "optimizer=adamw"]).optimizer.lr == 4e-3
    assert compose([*llama, "optimizer=adafactor"]).optimizer.lr == 1e-2
    assert compose([*llama, "optimizer=adafactor", "optimizer.lr=0.5"]).optimizer.lr == 0.5
    t5 = ["experiment=ntl/gsm8k/gpu"]
    for tokenizer in ("digit", "regression_transformer"):
        assert compose([*t5, f"tokenizer={tokenizer}"]).tokenizer.model == "google-t5/t5-base"
    assert compose([*t5, "tokenizer=gpt2"]).tokenizer.model == "openai-community/gpt2"


def test_what_the_same_class_takes_stays() -> None:
    """The preset does not have the key itself."""
    config = compose(["experiment=mtp/scaling/paper", "model=decoder_tiny"])
    assert "checkpoint_activations" not in settings("model", "decoder_tiny")
    assert config.model.checkpoint_activations is True


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_recipes_own_choices_by_name_change_nothing(recipe: str) -> None:
    overrides = [f"experiment={recipe}/smoke"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra_compose("train", overrides, return_hydra_config=True)
    own = composed.hydra.runtime.choices
    named = [f"{group}={own[group]}" for group in GROUPS if own.get(group) is not None]
    assert compose([*overrides, *named]) == compose(overrides)


def test_a_part_that_a_class_takes_beyond_its_file_stays_with_the_choice() -> None:
    recipe = ["experiment=ntl/multiplication/smoke"]
    named = compose([*recipe, "evaluator=number_answers_and_mass"])
    assert named == compose(recipe)
    assert named.evaluator.evaluators.number_answers.clip == 1e13


def test_settings_of_a_choice_that_is_left_out_go_as_well() -> None:
    recipe = ["experiment=ntl/efficiency/smoke"]
    assert "probe" in compose(recipe) and "probe" not in compose([*recipe, "~probe"])
    assert "evaluator" not in compose([*recipe, "~evaluator"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scheduler=plateau", "scheduler.warmup_steps=3"], r"scheduler.warmup_steps: Plateau has"),
        (["scheduler=plateau", "+scheduler.foo=3"], r"scheduler.foo: Plateau has no such setting"),
        (["optimizer=adafactor", "optimizer.betas=[0.9,0.9]"], r"Key 'betas' is not in struct"),
        (["~optimizer", "optimizer.lr=1"], r"Key 'optimizer' is not in struct"),
        (["evaluator=held_out", "evaluator.max_prompts=1"], r"evaluator.max_prompts: HeldOut has"),
    ],
)
def test_what_the_user_writes_is_refused_and_not_dropped(
    overrides: list[str], message: str
) -> None:
    with pytest.raises((UsageError, HydraException)) as error:
        check_settings(compose(["experiment=mtp/prose/smoke", *overrides]))
    parts = (error.value, error.value.__cause__)
    assert re.search(message, " ".join(str(each) for each in parts))


def train(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TRAIN), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def test_the_shown_config_is_the_one_that_runs(tmp_path: Path) -> None:
    overrides = ["experiment=mtp/prose/smoke", "scheduler=plateau", "optimizer=adafactor"]
    shown = OmegaConf.create(train(*overrides, "--cfg", "job", cwd=tmp_path).stdout)
    assert shown == compose(overrides)


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=local"]])
def test_each_job_of_a_sweep_has_the_keys_of_its_choice(
    launcher: list[str], tmp_path: Path
) -> None:
    """The schedulers are checked before the trainer, whose refusal ends the jobs here."""
    sweep = ["-m", "experiment=mtp/prose/smoke", "scheduler=plateau,constant", *launcher]
    done = train(*sweep, "trainer.max_steps=true", cwd=tmp_path)
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2, done.stderr
    assert all("trainer.max_steps=true: give a whole number" in line for line in failed)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    own = tmp_path / "optimizer" / "own.yaml"
    own.parent.mkdir()
    for time, rate in enumerate((0.5, 0.25), start=1):
        own.write_text(f"_target_: torch.optim.SGD\nlr: {rate}\n")
        os.utime(own, (time, time))  # two writes at once may not differ in their time
        config = compose([f"hydra.searchpath=[file://{tmp_path}]", "optimizer=own"])
        config.optimizer.lr += 1  # what one composition returns is not what the next one gets
        assert config.optimizer.lr == 1 + rate


@cache
def options(group: str) -> list[str]:
    """The choices that differ in class or keys: others are presets of one of them.

    The smallest model of each kind; a loss of each target, as recipes set nothing in losses.
    """
    distinct = {}
    for name in sorted(choices(group), key=lambda name: ("smallest" not in name, name)):
        config = settings(group, name)
        nested = config.get("config") or {}
        kind = (config.get("_target_"), *config, *nested)
        distinct.setdefault(target(group, name).target if group == "loss" else kind, name)
    return list(distinct.values())


def refusal(config: DictConfig) -> str | None:
    """What the checks that `run` makes before it touches data say."""
    try:
        for every in (check, check_settings, check_parts, try_parts):
            every(config)
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "recipe",
    [
        # About 20 s each: of each paper one, and the others with the slow tests.
        pytest.param(name, marks=() if name in ("mtp/code", "ntl/arithmetic") else pytest.mark.slow)
        for name in RECIPES
    ],
)
def test_every_choice_over_every_recipe_fits_or_is_refused_for_what_it_is(recipe: str) -> None:
    taken: dict[str, list[str]] = {group: [] for group in GROUPS}
    for group in GROUPS:
        for name in options(group):
            choice = f"{group}={name}"
            line = refusal(compose([f"experiment={recipe}/smoke", choice, *NEEDED.get(choice, [])]))
            if line is None:
                taken[group].append(name)
            else:
                assert "\n" not in line and "has no such setting" not in line, f"{choice}: {line}"
    for group in ("optimizer", "scheduler", "trainer", "logger"):  # they go with everything
        assert taken[group] == options(group)
    assert all(taken[group] for group in ("dataset", "tokenizer", "model", "head", "evaluator"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_sample_of_choices_over_a_recipe_trains_or_is_refused(
    recipe: str, tmp_path: Path, cache_dir: Path
) -> None:
    """Without other data sets: they come in their own size, which takes minutes to prepare."""
    every = [f"{group}={name}" for group in GROUPS if group != "dataset" for name in options(group)]
    small = ["trainer.max_steps=2", "trainer.progress=false"]
    places = [f"results_dir={tmp_path}", f"cache_dir={cache_dir}"]
    for choice in random.Random(recipe).sample(every, 8):
        needed = NEEDED.get(choice, [])
        config = compose([f"experiment={recipe}/smoke", choice, *needed, *small, *places])
        try:
            folder = run(config)
        except (UsageError, RunError) as error:
            assert "\n" not in str(error) and "has no such setting" not in str(error), choice
        else:
            assert (folder / "DONE").exists(), choice
