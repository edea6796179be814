"""What a run starts from: random weights, those of another run, or a checkpoint's.

`with_source` writes the whole config of the other run into this run's, as `start.source`. So the
config says by itself what defines the run, and a recipe that changes later changes no finished run.
The optimizer always starts afresh.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from beyond_ce.configuration import build, compose
from beyond_ce.errors import UsageError
from beyond_ce.runs.identity import run_folder
from beyond_ce.runs.store import is_done, kept_weights, read_config
from beyond_ce.settings import PATH, TEXT, Rule, each, one_of, optional, shown, takes, whole

# Keys that say where and how a run happens: a source that is still to be run takes this run's.
_PLACES = (
    *("results_dir", "cache_dir", "logger", "trainer.accelerator", "trainer.devices"),
    *("trainer.num_nodes", "trainer.strategy", "trainer.progress"),
)
_CHECKPOINT: Rule = one_of("last", "best")
_WEIGHTS: Rule = one_of("float32", "bfloat16")


class Start(ABC):
    """One choice of the group `start`."""

    @abstractmethod
    def resolve(self, config: DictConfig) -> DictConfig:
        """A copy of the run's config with what `start` stands for.

        Raises:
            UsageError: there is no such source, or it cannot be started from.
        """


class FromScratch(Start):
    """Random weights, as without the group."""

    def resolve(self, config: DictConfig) -> DictConfig:
        return _changed(config, None)


class FromRun(Start):
    """The weights of another run, named by its recipe.

    Args:
        experiment: the other run's recipe at a scale.
        overrides: of that recipe, as on the command line.
        seeds: of the other run: a run with seed s starts from the run with seed
            `seeds[s % len(seeds)]`. None for the same seed.
        checkpoint: last or best.
        weights: bfloat16 rounds the weights, so that they equal those that git keeps (see
            `runs.kept`).
        source: the other run's whole config, from `resolve`.
    """

    @takes(
        "start",
        experiment=TEXT,
        overrides=lambda value: None if value == [] else each(TEXT)(value),
        seeds=optional(each(whole())),
        checkpoint=_CHECKPOINT,
        weights=_WEIGHTS,
    )
    def __init__(
        self,
        experiment: str,
        overrides: Sequence[str],
        seeds: Sequence[int] | None,
        checkpoint: str,
        weights: str,
        source: dict[str, Any] | None = None,
    ) -> None:
        if seeds_given := [o for o in overrides or () if o.startswith("seed=")]:
            raise UsageError(
                f"start.overrides: {seeds_given[0]} has no effect, as a source has the run's seed "
                "or one of start.seeds: leave it out"
            )
        self.experiment = experiment
        self.overrides = list(overrides)
        self.seeds = seeds
        self.source = source

    def resolve(self, config: DictConfig) -> DictConfig:
        if self.source is not None:
            return config
        seed = config.seed if self.seeds is None else self.seeds[config.seed % len(self.seeds)]
        source = _composed(f"experiment={self.experiment}", *self.overrides).copy()
        source.seed = seed
        for key in _PLACES:
            OmegaConf.update(source, key, OmegaConf.select(config, key), merge=False)
        return _changed(config, with_source(source))


@functools.lru_cache(maxsize=32)
def _composed(*overrides: str) -> DictConfig:
    """Composing takes a fraction of a second, and all seeds of a table start from few recipes."""
    return compose(overrides)


class FromCheckpoint(Start):
    """The weights in a folder or on the Hugging Face hub.

    Args:
        path: a run's folder, or whatever the model's `pretrained` takes, which it then becomes.
        checkpoint, weights: as in `FromRun`; of a run only.
        source: the config of the run in `path`, from `resolve`.
    """

    @takes("start", path=PATH, checkpoint=_CHECKPOINT, weights=_WEIGHTS)
    def __init__(
        self, path: str, checkpoint: str, weights: str, source: dict[str, Any] | None = None
    ) -> None:
        self.path = path
        self.source = source

    def resolve(self, config: DictConfig) -> DictConfig:
        if self.source is not None:
            return config
        if (Path(self.path) / "config.yaml").exists():
            return _changed(config, read_config(Path(self.path)))
        if "pretrained" not in config.model:
            raise UsageError(
                f"start.path={self.path} is no run's folder, and model {config.model._target_} "
                "starts from nothing else: give one"
            )
        named = config.tokenizer.get("model")
        if named is None or Path(named).resolve() != Path(self.path).resolve():
            raise UsageError(
                f"start.path={self.path} has a tokenizer of its own: choose it with "
                f"tokenizer=pretrained tokenizer.model={self.path} (or tokenizer=sentencepiece, "
                "for a tokenizer.model)"
            )
        changed = _changed(config, None)
        changed.model.pretrained = self.path
        return changed


def with_source(config: DictConfig) -> DictConfig:
    """The config with the whole config of the run that it starts from, as `start.source`.

    Raises:
        UsageError: there is no such run, or it has no model or another tokenizer.
    """
    if config.get("start") is None:
        return config
    start: Start = build(config.start, "start", _recursive_=False)
    return start.resolve(config)


def lacks_source(config: DictConfig) -> bool:
    """Whether the run that `config` starts from, named by its recipe, must be made first."""
    start = config.get("start")
    if start is None or "experiment" not in start or is_done(run_folder(start.source)):
        return False
    return not (start.weights == "bfloat16" and kept_weights(start.source) is not None)


def source_overrides(start: Mapping[str, Any], places: bool = False) -> list[str]:
    """What composes the run that a resolved `start` names by its recipe, without its seed.

    Args:
        places: also where and how it happens, which its name does not depend on.
    """
    overrides = [f"experiment={start['experiment']}", *start["overrides"]]
    if places:
        source = OmegaConf.create(start["source"])
        values = ((key, OmegaConf.select(source, key)) for key in _PLACES if key != "logger")
        overrides += [f"{key}={value}" for key, value in values]
    return overrides


def at_seed(config: DictConfig, seed: int) -> DictConfig:
    """A copy of a config with another seed, and with the source that goes with this seed."""
    config = config.copy()
    config.seed = seed
    if "experiment" in (config.get("start") or {}) and "source" in config.start:
        with open_dict(config):
            del config.start["source"]
    return with_source(config)


def _changed(config: DictConfig, source: DictConfig | None) -> DictConfig:
    """A copy that starts from `source`; None for nothing but what `model` says."""
    config = config.copy()
    with open_dict(config):
        if source is None:
            del config["start"]
        else:
            _check_source(config, source)
            config.start.source = OmegaConf.to_container(source, resolve=True)
    return config


def _check_source(config: DictConfig, source: DictConfig) -> None:
    """Refuse a source without a model or with another tokenizer."""
    if "baseline" in source:
        raise UsageError("start: a run with a baseline has no model to start from")
    if "baseline" in config:
        raise UsageError("start: a baseline has no weights: leave out start= or baseline=")
    ours, theirs = (OmegaConf.to_container(c.tokenizer, resolve=True) for c in (config, source))
    assert isinstance(ours, dict) and isinstance(theirs, dict)
    for key in [*theirs, *ours]:
        if ours.get(key) != theirs.get(key):
            raise UsageError(
                f"tokenizer.{key}={shown(ours.get(key))}, but the run to start from has "
                f"{shown(theirs.get(key))}: choose its tokenizer, or start=random"
            )
