"""Rotary frequencies, and how models with longer contexts than before scale them.

The settings are those of transformers: `rope_type` (default, linear, llama3 or yarn) and the
numbers that it needs.

Shapes: E head size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from beyond_ce.errors import UsageError

_ORIGINAL = "original_max_position_embeddings"
_NEEDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", _ORIGINAL),
    "yarn": ("factor", _ORIGINAL),
}
_TAKES = {"yarn": ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")}


def check_scaling(scaling: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The settings as a plain dict; None if they scale nothing.

    Raises:
        UsageError: the type is unknown, a number is missing, unknown or out of range.
    """
    if scaling is None:
        return None
    if not isinstance(scaling, Mapping):
        raise UsageError(f"rope_scaling={scaling!r}: give rope_type and its numbers, or null")
    values = {key: value for key, value in scaling.items() if value is not None}
    kind = values.pop("rope_type", None)
    if not isinstance(kind, str) or kind not in _NEEDS:
        raise UsageError(f"rope_scaling of type {kind}: models here know {', '.join(_NEEDS)}")
    for key in _NEEDS[kind]:
        if key not in values:
            raise UsageError(f"rope_scaling of type {kind} has no {key}: add it")
    for key, value in values.items():
        if key == "truncate" and kind == "yarn" and isinstance(value, bool):
            continue
        if key not in (*_NEEDS[kind], *_TAKES.get(kind, ())):
            raise UsageError(f"rope_scaling of type {kind} has no setting {key}: leave it out")
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise UsageError(f"rope_scaling.{key}={value!r}: give a positive number")
    if kind == "llama3" and values["low_freq_factor"] >= values["high_freq_factor"]:
        raise UsageError("rope_scaling: make low_freq_factor smaller than high_freq_factor")
    return None if kind == "default" else {"rope_type": kind, **values}


def frequencies(
    head_dim: int, theta: float, scaling: Mapping[str, Any] | None
) -> tuple[Tensor, float]:
    """Radians per position, float32 [E / 2], and the factor on cosine and sine.

    Args:
        head_dim: E.
        theta: base of the wavelengths.
        scaling: as from `check_scaling`.
    """
    plain = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    if scaling is None:
        return plain, 1.0
    if scaling["rope_type"] == "linear":
        return plain / scaling["factor"], 1.0
    if scaling["rope_type"] == "llama3":
        return _llama3(plain, scaling), 1.0
    return _yarn(plain, head_dim, theta, scaling), _yarn_attention_factor(scaling)


def _llama3(plain: Tensor, scaling: Mapping[str, Any]) -> Tensor:
    """Divides by `factor` what turns less than `low_freq_factor` times in the original context,
    keeps what turns more than `high_freq_factor` times, and interpolates between.

    Source: `apply_scaling` in Meta's code for Llama 3.1.
    """
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling[_ORIGINAL] * plain / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * plain / scaling["factor"] + kept * plain


def _yarn(plain: Tensor, head_dim: int, theta: float, scaling: Mapping[str, Any]) -> Tensor:
    """Like `_llama3`, but interpolates along the channels, between those that turn `beta_fast` and
    `beta_slow` times in the original context.

    Source: Peng et al. (2023), "YaRN", section 3.2.
    """

    def channel(turns: float) -> float:
        wavelength = scaling[_ORIGINAL] / (turns * 2 * math.pi)
        return head_dim * math.log(wavelength) / (2 * math.log(theta))

    first, last = channel(scaling.get("beta_fast", 32)), channel(scaling.get("beta_slow", 1))
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    if first == last:
        last += 0.001  # not to divide by zero, as in transformers
    channels = torch.arange(head_dim // 2, dtype=torch.float32)
    scaled = ((channels - first) / (last - first)).clamp(0, 1)
    return scaled * plain / scaling["factor"] + (1 - scaled) * plain


def _yarn_attention_factor(scaling: Mapping[str, Any]) -> float:
    """The square root of the factor on attention scores (YaRN, section 3.3); with `mscale` and
    `mscale_all_dim` as in DeepSeek's models."""
    if "attention_factor" in scaling:
        return float(scaling["attention_factor"])

    def factor(scale: float = 1.0) -> float:
        return 0.1 * scale * math.log(scaling["factor"]) + 1 if scaling["factor"] > 1 else 1.0

    if "mscale" in scaling and "mscale_all_dim" in scaling:
        return factor(scaling["mscale"]) / factor(scaling["mscale_all_dim"])
    return factor()
