"""Composing configs, checking them, and building what they name."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from beyond_ce.errors import RunError, UsageError, one_line

CONF_DIR = Path(__file__).resolve().parents[3] / "conf"
RECIPE = "recipe"  # the file of an experiment's folder that its scales build on

# Current name -> name in the configs of finished runs. A class that moved to another module still
# computes the same, so its runs keep their hash.
FORMER_NAMES = {
    f"beyond_ce.reproduction.{new}": f"beyond_ce.{old}"
    for new, old in {
        "measurements.decoding_cost.DecodingCost": "benchmarks.mtp_cost.DecodingCost",
        "measurements.loss_runtime.Runtime": "benchmarks.ntl_runtime.Runtime",
        "measurements.training_time.TrainingTime": "benchmarks.mtp_runtime.TrainingTime",
        "recipes.RecipeSettings": "recipes.Reading",
        "recipes.architecture": "recipes.architecture",
        "recipes.hyperparameters": "recipes.hyperparameters",
    }.items()
}


def compose(overrides: Iterable[str] = ()) -> DictConfig:
    """Compose `conf/train.yaml` with Hydra override strings, as `scripts/train.py` does."""
    overrides = list(overrides)
    check_overrides(overrides)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        try:
            config = hydra_compose("train", overrides=overrides, return_hydra_config=True)
        except HydraException as error:
            if advice := explain(error):
                raise UsageError(advice) from error
            raise
    check_scale(config.hydra)
    with open_dict(config):
        del config["hydra"]
    check(config)
    return config


@functools.cache
def _groups() -> tuple[str, ...]:
    """The groups that `conf/train.yaml` chooses from, in its order."""
    defaults = OmegaConf.load(CONF_DIR / "train.yaml").defaults
    return tuple(str(key) for entry in defaults if isinstance(entry, DictConfig) for key in entry)


@functools.cache
def _known_keys() -> frozenset[str]:
    keys = {str(key) for key in OmegaConf.load(CONF_DIR / "train.yaml")}
    return frozenset(keys.union(_groups())) - {"defaults", "experiment", "hydra"}


def choices() -> dict[str, list[str]]:
    """The options in `conf/` of every group and subgroup that a run chooses from.

    Experiments are left out: `experiments` lists them with their scales.
    """
    groups = [CONF_DIR / group for group in (*_groups(), "hydra") if group != "experiment"]
    folders = [folder for group in groups for folder in (group, *sorted(group.glob("*/")))]
    return {
        folder.relative_to(CONF_DIR).as_posix(): options
        for folder in folders
        if (options := sorted(path.stem for path in folder.glob("*.yaml")))
    }


def experiments() -> dict[str, list[str]]:
    """The scales of every experiment; an empty list for an experiment that is a single file."""
    scales = choices()["scale"]
    folder = CONF_DIR / "experiment"
    scales_of: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.yaml")):
        name = path.relative_to(folder).with_suffix("")
        if path.stem in scales:
            scales_of.setdefault(name.parent.as_posix(), []).append(path.stem)
        elif path.stem != RECIPE:
            scales_of[name.as_posix()] = []
    return scales_of


def check_overrides(overrides: Iterable[str]) -> None:
    """Refuse `group=` a number, true or null, to which Hydra has no answer but a traceback."""
    for override in overrides:
        group, is_choice, _ = override.partition("=")
        if not is_choice or group.partition("/")[0] not in _groups():
            continue
        try:
            value = OverridesParser.create().parse_override(override).value()
        except HydraException:  # it says itself what it cannot read
            continue
        if value is None or isinstance(value, bool | int | float):
            raise UsageError(
                f"{override}: name an option ({group}=... in --help), or leave out what the "
                f"experiment chooses with ~{group}"
            )


def check_scale(hydra: DictConfig | HydraConf) -> None:
    """Refuse an experiment's recipe without a scale, and a scale that is not the experiment's.

    Args:
        hydra: the `hydra` node of a composed config, which records the choices.
    """
    experiment, scale = (hydra.runtime.choices.get(group) for group in ("experiment", "scale"))
    if experiment is None:
        return
    name, _, last = experiment.rpartition("/")
    scales = experiments().get(name, [])
    if last == RECIPE and scales:
        raise UsageError(
            f"experiment={experiment} is only what its scales have in common: {_choose_scale(name)}"
        )
    if last not in scales or last == scale:
        return
    if any(override.startswith("scale=") for override in hydra.overrides.task):
        use = f"use experiment={name}/{scale}" if scale in scales else _choose_scale(name)
        raise UsageError(f"experiment={experiment} with scale={scale} mixes two scales: {use}")
    raise UsageError(
        f"conf/experiment/{experiment}.yaml is composed with scale={scale}: add "
        f"`override /scale: {last}` to its defaults"
    )


def explain(error: HydraException) -> str | None:
    """Advice on a key or an experiment that Hydra does not know; None where its line will do."""
    if isinstance(error, MissingConfigException):
        group, _, name = (error.missing_cfg_file or "").strip("/").partition("/")
        return _explain_experiment(name) if group == "experiment" else None
    found = re.match(r"Could not override '([^'.@]+)", str(error))
    if found and found[1] not in _known_keys():
        return _unknown_key(found[1])
    return None


def _explain_experiment(name: str) -> str | None:
    """It is a folder, lacks the scale, or is misspelled."""
    known = experiments()
    if known.get(name):
        return f"experiment={name} is a folder of scales: {_choose_scale(name)}"
    if known.get(parent := name.rpartition("/")[0]):
        return f"there is no experiment={name}: {_choose_scale(parent)}"
    below = [experiment for experiment in known if experiment.startswith(f"{name}/")]
    if not below:
        every = [f"{folder}/{scale}" for folder, scales in known.items() for scale in scales]
        near = difflib.get_close_matches(name, every, n=3) or sorted(known)
        return f"there is no experiment={name}: choose one of {', '.join(near)}"
    example = "/".join([below[0], *known[below[0]][:1]])
    return (
        f"experiment={name} is a folder of experiments: choose one of {', '.join(below)} "
        f"and its scale, such as experiment={example}"
    )


def _choose_scale(experiment: str) -> str:
    first, *others = experiments()[experiment]
    options = [f"experiment={experiment}/{first}", *(f".../{scale}" for scale in others)]
    return f"choose one of {', '.join(options)}, without scale="


def _unknown_key(key: str) -> str:
    return f"unknown config key '{key}'; known: {', '.join(sorted(_known_keys()))}"


def check(config: DictConfig) -> None:
    """Refuse keys that nothing reads and values that cannot be resolved."""
    unknown = sorted({str(key) for key in config} - _known_keys())
    if unknown:
        raise UsageError(_unknown_key(unknown[0]))
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UsageError(f"config key '{missing[0]}' needs a value: add {missing[0]}=...")
    OmegaConf.resolve(config.copy())


def build(node: DictConfig, what: str, **kwargs: Any) -> Any:
    """Instantiate a config group's choice; a key that its class does not take is a UsageError."""
    try:
        # A copy: Hydra would resolve in place what a reference such as ${dataset} leads to.
        plain = OmegaConf.create(OmegaConf.to_container(node, resolve=True))
        return instantiate(plain, **kwargs)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UsageError | RunError):
            raise cause from error
        if isinstance(cause, TypeError | ValueError):
            raise UsageError(f"{what}: {one_line(cause)}") from error
        raise
