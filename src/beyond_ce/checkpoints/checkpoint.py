"""A decoder with its config: the common form that all layouts are read into and written from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from beyond_ce.checkpoints.files import check_one_dtype, check_tensors
from beyond_ce.checkpoints.generation_config import end_ids
from beyond_ce.configuration import build
from beyond_ce.errors import RunError, UsageError, one_line
from beyond_ce.models.decoder import Decoder
from beyond_ce.storage.untrusted import check_plain, own_targets

_HEADS = "beyond_ce.models.heads"
DECODER = "beyond_ce.models.Decoder"


@dataclass
class Checkpoint:
    """A decoder with the config that builds it.

    Attributes:
        config: `vocab_size`, `pad_id`, `eos_id`, and `model` and `head` as in a run's config.
        model: the decoder, with its weights.
        generation: what transformers' `generation_config.json` says (see `read_generation`).
    """

    config: dict[str, Any]
    model: Decoder
    generation: dict[str, Any] = field(default_factory=dict)

    @property
    def end_ids(self) -> list[int]:
        """The tokens that end a text, as far as `generation` names any."""
        return end_ids(self.generation)


def llama_config(
    vocab_size: int, pad_id: int, eos_id: int, n: int, **settings: Any
) -> dict[str, Any]:
    """The config of a Llama model, with an `lm` head or the MTP paper's n parallel heads.

    Args:
        settings: arguments of `Decoder`.
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
        "model": {"_target_": DECODER, **settings},
        "head": head,
    }


def multiple_of(dim: int, hidden_dim: int, name: str) -> int:
    """The `multiple_of` with which Llama's rule gives a feed-forward size of `hidden_dim`.

    Raises:
        UsageError: the size is below the rule's minimum; `name` is the setting in the message.
    """
    default, minimum = 256, int(2 * 4 * dim / 3)
    if hidden_dim == default * -(-minimum // default):
        return default
    if hidden_dim < minimum:
        raise UsageError(
            f"{name} gives a feed-forward size of {hidden_dim}, but models here need at least "
            f"Llama's {minimum} for a hidden size of {dim}: choose another checkpoint"
        )
    return hidden_dim


def empty_decoder(config: Mapping[str, Any], source: Path) -> Decoder:
    """Builds the decoder of a config on the meta device, without memory for its weights.

    Raises:
        RunError: the config does not describe a decoder; `source` is its file, for the message.
    """
    check_plain(config, source, _builds_decoders)
    try:
        sizes = {key: config[key] for key in ("vocab_size", "pad_id", "eos_id")}
        with torch.device("meta"):
            head = build(OmegaConf.create(config["head"]), "head")
            model = build(OmegaConf.create(config["model"]), "model", head=head, **sizes)
    except KeyError as error:
        raise RunError(f"{source} has no {error.args[0]}: convert the checkpoint again") from error
    except Exception as error:  # wrong values in a file can make constructors raise anything
        reason = one_line(error)[:300]
        raise RunError(f"{source} does not describe a model: {reason}") from error
    if not isinstance(model, Decoder):
        raise RunError(f"{source} describes a {type(model).__name__}, expected a Decoder")
    return model


def _builds_decoders(target: str) -> bool:
    """Whether a checkpoint may name this: a decoder, a head, or a part of a head."""
    return target in own_targets() and target.startswith((DECODER, f"{_HEADS}."))


def counts(model: Decoder) -> dict[str, Tensor]:
    """By name, what a model keeps beside its parameters (see `MultiTokenHead.token_counts`)."""
    kept = model.state_dict()
    return {name: value for name, value in model.named_buffers() if name in kept}


def load_weights(
    model: Decoder,
    parameters: Mapping[str, Tensor],
    tensors: dict[str, Tensor],
    source: Path,
    dtype: torch.dtype | None,
    convert: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor,
) -> None:
    """Loads weights into a decoder on the meta device. Weights that need no change are not copied.

    Args:
        parameters: every parameter of the model by its name in the checkpoint.
        tensors: the weights by those names; emptied on the way, to avoid two copies in memory.
        source: where the tensors are from, for messages.
        dtype: the model's; None keeps the tensors' own.
        convert: maps a checkpoint's name and tensor to our tensor.

    Raises:
        RunError: names, shapes or types do not match the model.
    """
    weights: dict[str, Tensor] = {}
    for name, value in counts(model).items():
        found = tensors.pop(name, None)
        if found is None or (found.shape, found.dtype) != (value.shape, value.dtype):
            raise RunError(
                f"{source} has no {name} of shape {[*value.shape]} and {value.dtype}: convert the "
                "checkpoint again"
            )
        weights[name] = found
    check_tensors(tensors, {name: value.shape for name, value in parameters.items()}, source)
    if dtype is None:
        check_one_dtype(tensors, source)
    # Tied parameters have several names.
    model_names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        model_names.setdefault(id(parameter), []).append(name)
    for name, value in parameters.items():
        weight = convert(name, tensors.pop(name))
        weight = weight if dtype is None else weight.to(dtype)
        weights |= dict.fromkeys(model_names[id(value)], weight)
    model.load_state_dict(weights, assign=True)
    for first, *others in model_names.values():
        shared = model.get_parameter(first)
        for name in others:
            owner, _, key = name.rpartition(".")
            model.get_submodule(owner).register_parameter(key, shared)
    model.rotary.reset("cpu")
