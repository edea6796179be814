"""Settings out of range are refused in one line before data are touched, whatever the key.

The sweep finds the keys in conf/, so a new choice is swept as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from choices import choices, settings
from omegaconf import DictConfig, OmegaConf

from beyond_ce.configuration import compose
from beyond_ce.errors import RunError, UsageError
from beyond_ce.runs.checks import check_settings, try_parts
from beyond_ce.runs.experiment import run
from beyond_ce.runs.identity import run_hash

VALUES = [-1, 0, 1.5, math.nan, math.inf, 1e23, 10**23, True, None, "abc"]
SMOKE = ["experiment=ntl/arithmetic/smoke", "probe=sample_efficiency", "logger=wandb"]
GROUPS = [
    *("dataset", "tokenizer", "model", "head", "loss", "optimizer", "scheduler", "trainer"),
    *("evaluator", "baseline", "probe", "logger"),
]
# Keys whose number may be negative, and those that take any size: a limit that is never reached.
NEGATIVE = {"head.shift", "optimizer.beta2_decay", "trainer.devices"}
UNLIMITED = {
    *("trainer.gradient_clip", "optimizer.clip", "baseline.alphas", "probe.thresholds"),
}
# Numbers that may be null though conf/ sets them: the limit is then off, or the tokenizer has its
# own vocabulary.
NULLABLE = {
    "evaluator.max_new_tokens",
    "dataset.max_documents",
    "dataset.max_characters",
    "tokenizer.vocab_size",
    "model.config.num_key_value_heads",
}


@cache
def smoke() -> DictConfig:
    return compose(SMOKE)


def chosen(group: str, name: str) -> DictConfig:
    """The smoke config with another choice; composed only where a file includes parts."""
    if group in ("head", "evaluator"):
        return compose([*SMOKE, f"{group}={name}"])
    config = smoke().copy()
    OmegaConf.update(config, group, settings(group, name), merge=False, force_add=True)
    for key in OmegaConf.missing_keys(config):
        OmegaConf.update(config, key, "name")
    return config


def numeric_keys(config: DictConfig, group: str) -> Iterator[str]:
    """The keys of numbers and of null, which often stands for a number; lists of numbers too."""

    def walk(node: Any, prefix: str) -> Iterator[str]:
        for key, value in node.items():
            name = f"{prefix}.{key}"
            if isinstance(value, dict):
                yield from walk(value, name)
            elif value is None or is_number(value) or isinstance(value, list):
                yield name

    node = OmegaConf.to_container(config[group], resolve=False)
    yield from walk(node, group)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@cache
def options(group: str) -> list[tuple[str, DictConfig]]:
    """A choice of each class in the group, with each set of keys that there is."""
    distinct: dict[tuple[Any, ...], tuple[str, DictConfig]] = {}
    for name in choices(group):
        config = chosen(group, name)
        key = (config[group].get("_target_"), *numeric_keys(config, group))
        distinct.setdefault(key, (name, config))
    return list(distinct.values())


def swept(group: str) -> Iterator[tuple[str, DictConfig, str, Any, Any]]:
    """Choice, config, key, the key's default and the value that replaces it (or one in a list).

    The config is only good until the next one.
    """
    for name, config in options(group):
        before = OmegaConf.to_yaml(config)
        for key in numeric_keys(config, group):
            default = OmegaConf.to_container(config, resolve=False)
            for part in key.split("."):
                default = default[part]
            for value in VALUES:
                inner = [value, *default[1:]] if isinstance(default, list) else value
                OmegaConf.update(config, key, inner, merge=False)
                yield name, config, key, default, value
            OmegaConf.update(config, key, default, merge=False)
        assert OmegaConf.to_yaml(config) == before  # the checks change nothing


def refusal(check: Callable[[DictConfig], object], config: DictConfig) -> str | None:
    """The line of a UsageError; any other error fails the test."""
    try:
        check(config)
    except UsageError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
        return str(error)
    return None


@pytest.mark.parametrize("group", GROUPS)
def test_every_number_is_taken_or_refused_in_one_line(group: str) -> None:
    for name, config, key, default, value in swept(group):
        line = refusal(check_settings, config)
        what = f"{group}={name} {key}={value} ({line})"
        if line is not None:
            assert line.startswith(key), what
            continue
        assert value == value and value != math.inf, what
        first = default[0] if isinstance(default, list) and default else default
        if is_number(first):
            assert is_number(value) or (value is None and key in NULLABLE), what
            assert value is None or value >= 0 or key in NEGATIVE, what
            assert value is None or value < 1e23 or key in UNLIMITED, what
            assert isinstance(first, float) or isinstance(value, int | None), what
        elif first is None and is_number(value):
            assert isinstance(value, int) and 0 < value < 1e23, what
        else:
            assert not isinstance(value, bool), what
        refusal(try_parts, config)


@pytest.mark.parametrize("group", GROUPS)
def test_equal_numbers_are_one_run(group: str) -> None:
    """Wherever both 2 and 2.0 may be given."""
    for name, config, key, default, value in swept(group):
        if value != VALUES[0]:
            continue  # each key once
        for whole in (0, 1, 2):
            names = []
            for number in (whole, float(whole)):
                inner = [number, *default[1:]] if isinstance(default, list) else number
                OmegaConf.update(config, key, inner, merge=False)
                if refusal(check_settings, config) is None:
                    names.append(run_hash(config))
            assert len(names) < 2 or names[0] == names[1], f"{group}={name} {key}={whole}"


@pytest.mark.parametrize(
    "overrides",
    [
        ("loss=ntl_was loss.weight=1", "loss=ntl_was loss.weight=1.0"),
        ("optimizer.lr=1e-3", "optimizer.lr=0.001"),
        ("head=multi_token head.loss_weights=[1,2]", "head=multi_token head.loss_weights=[1.0,2]"),
        (
            "model=gpt2_tiny model.config.attn_pdrop=0",
            "model=gpt2_tiny model.config.attn_pdrop=0.0",
        ),
        ("head=regression head.shift=-0.0", "head=regression head.shift=0"),
    ],
)
def test_numbers_count_by_their_value(overrides: tuple[str, str]) -> None:
    one, two = (compose([*SMOKE, *each.split()]) for each in overrides)
    assert run_hash(one) == run_hash(two)


def test_a_flag_is_no_number() -> None:
    flags = [compose([*SMOKE, "trainer.compile=true"]), compose([*SMOKE, "trainer.compile=1"])]
    assert run_hash(flags[0]) != run_hash(flags[1])


@pytest.mark.parametrize(
    "key", ["seed", "results_dir", "cache_dir", "evaluate_checkpoint", "scale", *GROUPS]
)
def test_keys_outside_of_groups(key: str) -> None:
    taken = {"seed": [0], "results_dir": ["abc"], "cache_dir": ["abc"], "scale": ["abc"]}
    for value in VALUES:
        config = smoke().copy()
        OmegaConf.update(config, key, value, merge=False, force_add=True)
        line = refusal(check_settings, config)
        fits = not isinstance(value, bool) and value in taken.get(key, [])
        assert (line is None) == fits, f"{key}={value}: {line}"
        assert line is None or line.startswith(key)


BEFORE_THE_DATA = [
    ("optimizer.lr=-1", "optimizer.lr=-1: give a positive number"),
    ("optimizer.lr=2", "optimizer.lr=2: give "),  # of Adafactor, which would not follow it
    ("trainer.precision=16-mixed", "trainer.precision=16-mixed: give 32-true or bf16-mixed or "),
    ("optimizer.lr=inf", "optimizer.lr=inf: give a finite number"),
    ("+optimizer.foo=1", "optimizer.foo: adafactor has no such setting; it takes beta2_decay, "),
    ("~optimizer.lr", "optimizer: .*lr"),
    ("scheduler.warmup_steps=-2", "scheduler.warmup_steps=-2: give at least 0"),
    ("trainer.gradient_clip=-1", "trainer.gradient_clip=-1: give at least 0"),
    ("trainer.max_steps=true", "trainer.max_steps=true: give a whole number"),
    ("trainer.max_steps=2.5", "trainer.max_steps=2.5: give a whole number"),
    ("trainer.batch_size=16.0", "trainer.batch_size=16.0: give a whole number, as 16$"),
    ("trainer.evaluate_every=nan", "trainer.evaluate_every=nan: give a whole number"),
    ("loss.weight=-1", "loss.weight=-1: give at least 0"),
    ("evaluate_checkpoint=foo", "evaluate_checkpoint=foo: give last or best"),
    ("seed=abc", "seed=abc: give a whole number"),
    ("seed=-1", "seed=-1: give at least 0"),
    ("seed=null", "seed=null: give a whole number"),
    ("results_dir=null", "results_dir=null: give a path"),
    ("~logger", "logger needs a choice: give logger= one of none, wandb"),
    ("model.d_model=1.5", "model.d_model=1.5: give a whole number"),
    ("cache_dir=null", "cache_dir=null: give a path"),
    ("evaluator.num_beams=0", "evaluator.num_beams=0: give at least 1"),
    ("+model.foo=1", "model.foo: T5 has no such setting"),
    ("+logger.foo=1", "logger.foo: NoLogger has no such setting; it takes none"),
]
TOO_LARGE = "^model: its weights would take more than the 16 GB of memory of this machine: "
WITH_PARTS = [
    (["head=regression", "loss=mse", "head.shift=inf"], "head.shift=inf: give a finite number"),
    (["loss=gce", "loss.sigma=-1"], "loss.sigma=-1: give at least 1e-06"),
    (["loss=ntl_huber", "loss.distance.delta=0"], "loss.distance.delta=0: give a positive"),
    (["head=multi_token", "head.n=2.0"], "head.n=2.0: give a whole number, as 2"),
    (
        ["model=decoder_smallest", "head=multi_token", "head.loss_weights=[0,0,0,0]"],
        r"head.loss_weights=\[0, 0, 0, 0\]: make one of them positive",
    ),
    (
        ["model=decoder_smallest", "head=multi_token", "head.loss_weights=[1,1]"],
        r"head.loss_weights=\[1.0, 1.0\]: give 4 weights",
    ),
    (["model=decoder_smallest", "head=multi_token", "head.n=100"], "head.n=100 takes 100 of"),
    (["model=decoder_smallest", "model.num_heads=7"], "does not divide into 7 heads"),
    (["model=gpt2_tiny", "model.config.n_embd=63"], "model.config does not give a gpt2 model"),
    (["model=gpt2_tiny", "model.config.n_layer=-1"], "model.config.n_layer=-1: give at least 0"),
    (["model=gpt2_tiny", "model.config.n_layer=1000000000"], "n_layer=1000000000: give at most"),
    (["model=gpt2_tiny", "model.config.n_embd=1048576"], TOO_LARGE),
    (["model.d_model=1048576", "model.d_ff=1048576"], TOO_LARGE),
    (["model=decoder_tiny", "model.dim=1048576"], TOO_LARGE),
    (["model=decoder_13b", "model.num_layers=1000"], TOO_LARGE),
    (["model=decoder_tiny", "model.max_length=16777216", "model.dim=65536"], TOO_LARGE),
    (
        [
            *("model=decoder_tiny", "model.dim=65536", "model.num_layers=1", "head=multi_token"),
            *("head/block=linear", "head.n=1000"),
        ],
        TOO_LARGE,
    ),
    (
        ["evaluator=number_answers_and_mass", "evaluator.batch_size=0"],
        "^evaluator.batch_size=0: give at least 1",
    ),
]


@pytest.mark.parametrize(
    ("overrides", "message"), [*(([o], m) for o, m in BEFORE_THE_DATA), *WITH_PARTS]
)
def test_it_is_refused_before_the_data(
    smoke_config: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(
        "beyond_ce.data.Arithmetic.load", lambda self: pytest.fail("the data were made")
    )
    memory = SimpleNamespace(total=16 * 10**9)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    if not any(o.startswith("loss=") for o in overrides):
        overrides = ["loss=ntl_was", *overrides]
    with pytest.raises(UsageError, match=message):
        run(smoke_config(*overrides))
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("model", choices("model"))
def test_every_model_is_tried_without_its_weights(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that have sizes are taken, whatever the machine; published weights are not looked at."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=10**15))
    xval = ["tokenizer=xval", "head=xval", "loss=xval"] if model.startswith("xval") else []
    named = ["model.pretrained=a/b"] if model == "decoder_pretrained" else []
    try_parts(compose([f"model={model}", *xval, *named]))


def test_a_choice_that_is_missing(smoke_config: Callable[..., DictConfig]) -> None:
    for value in ("null", "5", "nan", "true"):
        with pytest.raises(UsageError, match=f"^model={value}: name an option .* with ~model$"):
            smoke_config(f"model={value}")
    config = smoke_config()
    del config.model
    with pytest.raises(UsageError, match="model needs a choice: give model= one of causal_lm, "):
        run(config)


def test_the_checks_change_no_run(smoke_config: Callable[..., DictConfig]) -> None:
    config = smoke_config("loss=ntl_was", "probe=sample_efficiency")
    before = run_hash(config)
    check_settings(config)
    try_parts(config)
    assert run_hash(config) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "group", [group for group in GROUPS if group not in ("dataset", "baseline", "logger")]
)
def test_what_is_taken_trains(
    smoke_config: Callable[..., DictConfig], tmp_path: Path, group: str
) -> None:
    """A run of two steps is a report with finite metrics, or one line."""
    small = ["trainer.max_steps=2", "evaluator.max_examples=4", "evaluator.max_new_tokens=2"]
    base = smoke_config("loss=ntl_was", "probe=sample_efficiency", "model=t5_smallest", *small)
    for key in numeric_keys(base, group):
        for value in VALUES:
            config = base.copy()
            default = OmegaConf.select(base, key)
            inner = [value, *default[1:]] if OmegaConf.is_list(default) else value
            OmegaConf.update(config, key, inner, merge=False)
            if refusal(check_settings, config) is not None:
                continue
            try:
                folder = run(config)
            except (UsageError, RunError) as error:
                assert "\n" not in str(error), f"{key}={value}"
            else:
                assert (folder / "DONE").exists(), f"{key}={value}"
