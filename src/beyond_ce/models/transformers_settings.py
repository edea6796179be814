"""What the settings of a model of transformers may be, by the defaults of its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig

from beyond_ce.settings import (
    DROPOUT,
    FLAG,
    LAYERS_MOST,
    Rule,
    in_one_form,
    number,
    optional,
    shown,
    whole,
    with_form,
)


def check_numbers(config: Any) -> str | None:
    """A mapping whose numbers are of the type of the model's defaults, and in a range of use.

    Only what is common to all types: `CausalLM` refuses unknown keys, and the model itself
    refuses what does not fit together.
    """
    if not isinstance(config, Mapping):
        return "model_type is missing: give it, and keys of that type"
    for key, rule in _rules(config).items():
        if (advice := rule(config[key])) is not None:
            return f"{key}={shown(config[key])}: {advice}"
    return None


def _in_one_form(config: Any) -> Any:
    if not isinstance(config, Mapping):
        return config
    rules = _rules(config)
    return {k: in_one_form(rules[k], v) if k in rules else v for k, v in config.items()}


with_form(check_numbers, _in_one_form)


def _rules(config: Mapping[str, Any]) -> dict[str, Rule]:
    """What each key may be, by the defaults of the model's type; none where there is no such type,
    which `CausalLM` refuses."""
    try:
        defaults = AutoConfig.for_model(config["model_type"])
    except (KeyError, TypeError, ValueError):
        return {}
    rules = {}
    for key in config:
        try:
            default = getattr(defaults, key, None)
        except Exception:  # a setting that differs between layers has no single default
            default = None
        nullable = "None" in str(type(defaults).__annotations__.get(key))
        rules[key] = optional(_rule(key, default)) if nullable else _rule(key, default)
    return rules


def _rule(key: str, default: Any) -> Rule:
    """What may replace the default of a setting."""
    if isinstance(default, bool):
        return FLAG
    if isinstance(default, int):
        # Every layer and every expert is a module, and torch takes milliseconds to make one.
        return whole(0, LAYERS_MOST if "layer" in key or "expert" in key else 2**24)
    if isinstance(default, float):
        return DROPOUT if "drop" in key else number(above=0, high=1e6)
    return lambda value: None
