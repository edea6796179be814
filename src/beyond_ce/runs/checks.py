"""The settings of a run, checked before its data are touched.

`check_settings` reads the config alone. `try_parts` then builds small stand-ins of the parts that
are made of the data later, which shows what no setting shows on its own: a size that does not
divide into its heads, or an optimizer of torch's that refuses its arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from beyond_ce.configuration import build, choices
from beyond_ce.errors import UsageError, one_line
from beyond_ce.settings import PATH, TEXT, Rule, check_value, check_values, one_of, whole

# First those whose modules are imported fast, so that a wrong value there is told at once.
_REQUIRED = (
    *("loss", "optimizer", "scheduler", "trainer", "logger"),
    *("dataset", "tokenizer", "model", "head", "evaluator"),
)
_OPTIONAL = ("baseline", "objective", "probe", "selection", "start")
_TOP: dict[str, Rule] = {
    "seed": whole(0, 2**32 - 1),  # as numpy takes, which Fabric seeds too
    "results_dir": PATH,
    "cache_dir": PATH,
    "evaluate_checkpoint": one_of("last", "best"),
    "scale": TEXT,
}
_MOST_NAMED = 12
_TOKENS = 8  # a stand-in's vocabulary


def check_settings(config: DictConfig) -> None:
    """Refuse a missing choice, and whatever its class does not take.

    Raises:
        UsageError: for the first key that is wrong.
    """
    raw: Any = OmegaConf.to_container(config, resolve=False)
    values: Any = OmegaConf.to_container(config, resolve=True)
    for group in (*_REQUIRED, *_OPTIONAL):
        if group in _REQUIRED or group in values:
            _check_choice(group, values.get(group))
    for key, rule in _TOP.items():
        if key not in values:
            raise UsageError(f"config key '{key}' needs a value: add {key}=...")
        check_value(key, values[key], rule)
    if "selection" in values and values["evaluate_checkpoint"] != "last":
        raise UsageError(
            f"evaluate_checkpoint={values['evaluate_checkpoint']} and selection= both choose the "
            "checkpoint to evaluate: leave out one of them"
        )
    for group in (*_REQUIRED, *_OPTIONAL):
        if group in values:
            _check_node(group, values[group], raw[group])


def _check_choice(group: str, node: Any) -> None:
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        options = choices()[group]
        some = ", ".join(
            options if len(options) <= _MOST_NAMED else [*options[:_MOST_NAMED], "..."]
        )
        what = "needs a choice" if node is None else "has settings, but no choice that they are of"
        raise UsageError(f"{group} {what}: give {group}= one of {some}")


def _check_node(path: str, node: Any, written: Any) -> None:
    """Check a mapping with a `_target_`, and those in it; `written` has its interpolations."""
    if not isinstance(node, dict):
        return
    raw: dict[str, Any] = written if isinstance(written, dict) else {}
    for key, value in node.items():
        _check_node(f"{path}.{key}", value, raw.get(key))
    if "_target_" not in node:
        return

    def name(key: str) -> str:
        """The key that the user sets: the one that this one refers to, if it does."""
        other = re.fullmatch(r"\$\{([\w.]+)\}", str(raw.get(key)))
        return other[1] if other else f"{path}.{key}"

    try:
        target = get_object(node["_target_"])
    except Exception as error:  # as many kinds as there are ways to name no class
        raise UsageError(f"{path}: {one_line(error)}") from error
    check_values(target, node, name)


def try_parts(config: DictConfig) -> None:
    """Build the parts once without data, weights or memory.

    Raises:
        UsageError: one of them refuses its settings.
    """
    if "baseline" in config:
        return
    build(config.evaluator, "evaluator")
    if "probe" in config:
        build(config.probe, "probe")
    if "selection" in config:
        build(config.selection, "selection")
    build(config.tokenizer, "tokenizer")
    _try_model(config)
    optimizer = _call(build(config.optimizer, "optimizer"), "optimizer", nn.Linear(2, 2))
    _call(
        build(config.scheduler, "scheduler"),
        "scheduler",
        optimizer,
        max_steps=config.trainer.max_steps,
    )


def _try_model(config: DictConfig) -> None:
    """The model with its head, as shapes alone, unless its weights are to be loaded."""
    if config.model.get("pretrained") is not None:
        _call(build(config.head, "head"), "head", dim=_TOKENS, vocab_size=_TOKENS)
        return
    ids = {"vocab_size": _TOKENS, "pad_id": 0, "eos_id": 1}
    try:
        with torch.device("meta"), _within_memory():
            build(config.model, "model", **ids, head=build(config.head, "head"))
    except (InstantiationException, NotImplementedError, RuntimeError):
        return  # not every model can be built without weights; its own build tells


@contextmanager
def _within_memory() -> Iterator[None]:
    """Refuse a model as soon as the tensors made for it would not fit this machine's memory.

    A model is built on the CPU, wherever it is trained later.

    Raises:
        UsageError: they do not fit.
    """
    memory = psutil.virtual_memory().total
    size = 0

    def count(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal size
        size += 0 if tensor is None else tensor.numel() * tensor.element_size()
        if size > memory:
            raise UsageError(
                f"model: its weights would take more than the {memory / 1e9:.3g} GB of memory of "
                "this machine: choose a smaller model, or lower its sizes or those of the head"
            )

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _call(make: Any, what: str, *args: Any, **kwargs: Any) -> Any:
    """`make(...)` of a part that its config only names; what it refuses is a UsageError."""
    try:
        return make(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what}: {one_line(error)}") from error
