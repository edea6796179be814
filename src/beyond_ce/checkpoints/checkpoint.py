"""A decoder and what built it: what all formats are read into and written from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from beyond_ce.checkpoints.files import check_one_dtype, check_tensors
from beyond_ce.configuration import build
from beyond_ce.errors import RunError, UsageError, one_line
from beyond_ce.models.decoder import Decoder
from beyond_ce.untrusted import check_plain, own_targets

_HEADS = "beyond_ce.models.heads"
_DECODER = "beyond_ce.models.Decoder"


@dataclass
class Checkpoint:
    """A decoder with what makes it again.

    Attributes:
        config: `vocab_size`, `pad_id` and `eos_id`, and as in a run's config `model` and `head`.
        model: with the weights.
    """

    config: dict[str, Any]
    model: Decoder


def llama_config(
    vocab_size: int, pad_id: int, eos_id: int, n: int, **settings: float
) -> dict[str, Any]:
    """The config of a Llama, with an `lm` head or the paper's own n heads.

    Args:
        settings: of `Decoder`.
    """
    head: dict[str, Any] = {"_target_": f"{_HEADS}.LMHead", "_partial_": True}
    if n > 1:
        head = {
            "_target_": f"{_HEADS}.MultiTokenHead",
            "_partial_": True,
            "n": n,
            "block": {"_target_": f"{_HEADS}.TransformerBlocks", "_partial_": True},
            "unembedding": {"_target_": f"{_HEADS}.SharedUnembedding", "_partial_": True},
        }
    return {
        "vocab_size": vocab_size,
        "pad_id": pad_id,
        "eos_id": eos_id,
        "model": {"_target_": _DECODER, **settings},
        "head": head,
    }


def multiple_of(dim: int, hidden_dim: int, name: str) -> int:
    """What Llama's rule must round up to for a feed-forward size of `hidden_dim`.

    Raises:
        UsageError: the size is below the rule's; `name` says which.
    """
    usual, least = 256, int(2 * 4 * dim / 3)
    if hidden_dim == usual * -(-least // usual):
        return usual
    if hidden_dim < least:
        raise UsageError(
            f"{name} makes a feed-forward size of {hidden_dim}, below Llama's {least} for a hidden "
            f"size of {dim}, which models here always have: choose another checkpoint"
        )
    return hidden_dim


def empty_decoder(config: Mapping[str, Any], source: Path) -> Decoder:
    """The decoder of a config without memory for its weights.

    Raises:
        RunError: the config makes none; `source` is named as where it is from.
    """
    check_plain(config, source, _builds_decoders)
    try:
        sizes = {key: config[key] for key in ("vocab_size", "pad_id", "eos_id")}
        with torch.device("meta"):
            head = build(OmegaConf.create(config["head"]), "head")
            model = build(OmegaConf.create(config["model"]), "model", head=head, **sizes)
    except KeyError as error:
        raise RunError(f"{source} has no {error.args[0]}: convert the checkpoint again") from error
    except Exception as error:  # whatever the values of a file can do to constructors
        reason = one_line(error)
        raise RunError(f"{source} describes no model: {reason}") from error
    if not isinstance(model, Decoder):
        raise RunError(f"{source} describes a {type(model).__name__}, expected a Decoder")
    return model


def _builds_decoders(target: str) -> bool:
    """Whether a checkpoint may name this: a decoder, a head, or a part of a head."""
    return target in own_targets() and target.startswith((_DECODER, f"{_HEADS}."))


def fill(
    model: Decoder,
    places: Mapping[str, Tensor],
    tensors: dict[str, Tensor],
    source: Path,
    dtype: torch.dtype | None,
    convert: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor,
) -> None:
    """Gives an empty decoder its weights. Those that need no change are not copied.

    Args:
        places: every parameter of the model by its name in the checkpoint.
        tensors: by those names; emptied on the way, so that no two copies are in memory.
        source: of the tensors, for messages.
        dtype: of the model; None keeps that of the tensors.
        convert: from a checkpoint's tensor, given with its name, to ours.

    Raises:
        RunError: names, shapes or types are not those of the model.
    """
    check_tensors(tensors, {name: place.shape for name, place in places.items()}, source)
    if dtype is None:
        check_one_dtype(tensors, source)
    own = {id(parameter): name for name, parameter in model.named_parameters()}
    weights = {}
    for name, place in places.items():
        weight = convert(name, tensors.pop(name))
        weights[own[id(place)]] = weight if dtype is None else weight.to(dtype)
    model.load_state_dict(weights, assign=True)
    model.rotary.reset("cpu")
