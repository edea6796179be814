"""Decoders with random weights, and random tokens, for measurements that depend on neither.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from beyond_ce.batches.batch import Batch
from beyond_ce.configuration import build
from beyond_ce.models import Decoder
from beyond_ce.profiling import training_flops

DIGITS = torch.arange(100, 110)
"""The tokens that are digits in `digit_values` and `random_labels`."""


def random_decoder(config: DictConfig, vocabulary: int, **head: Any) -> Decoder:
    """The model of `config` and its head, with random weights.

    Args:
        head: settings that replace those of the config's head, such as `n=2`.
    """
    sizes = {"vocab_size": vocabulary, "pad_id": 0, "eos_id": 1}
    decoder: Decoder = build(
        config.model, "model", **sizes, head=build(config.head, "head", **head)
    )
    return decoder


def decoders_sharing_parameters(
    config: DictConfig, heads: Sequence[int], vocabulary: int
) -> dict[int, Decoder]:
    """n -> model with n heads, all with the same parameters, on the default device.

    The number of parameters does not depend on n: the same layers are in the trunk of one model and
    in the head of another. Sharing them makes it possible to compare large models on one device.
    """
    first = random_decoder(config, vocabulary, n=1)
    parameters, device = list(first.parameters()), first.embedding.weight.device
    models = {}
    for n in heads:
        with torch.device("meta"):
            models[n] = random_decoder(config, vocabulary, n=n)
        _replace_parameters(models[n], parameters)
        models[n].rotary.reset(device)
    return models


def decoder_flops(config: DictConfig, n: int | None, vocabulary: int, batch: Sequence[int]) -> int:
    """`training_flops` of the config's model for [B, T] tokens.

    All layers are alike, so two models that have little more than their heads give the rest.

    Args:
        n: heads of the model; None for as many as the config's head has.
    """
    head = {} if n is None else {"n": n}

    def count(layers: int) -> int:
        counted = config.copy()
        counted.model.num_layers = layers
        with torch.device("meta"):
            return training_flops(random_decoder(counted, vocabulary, **head), (batch[0], batch[1]))

    layers, few = config.model.num_layers, (n or config.head.get("n", 1)) + 1
    if layers <= few + 1:
        return count(layers)
    smallest = count(few)
    return smallest + (layers - few) * (count(few + 1) - smallest)


def random_batch(batch: Sequence[int], vocabulary: int) -> Batch:
    """[B, T] random tokens, labelled with the next token; every call gives the same ones."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocabulary, (batch[0], batch[1] + 1), generator=generator)
    inputs = tokens[:, :-1]
    return Batch(inputs, torch.ones_like(inputs, dtype=torch.bool), labels=tokens[:, 1:])


def random_prompts(vocabulary: int, count: int, length: int) -> list[list[int]]:
    """Random prompts without padding and end tokens; every call gives the same ones."""
    draw = torch.Generator().manual_seed(0)
    prompts: list[list[int]] = torch.randint(
        2, vocabulary, (count, length), generator=draw
    ).tolist()
    return prompts


def digit_values(vocabulary: int) -> Tensor:
    """Number values [V] of a vocabulary whose `DIGITS` are 0 to 9 and the only numbers."""
    values = torch.full((vocabulary,), torch.nan)
    values[DIGITS] = torch.arange(10.0)
    return values


def random_labels(shape: Sequence[int], vocabulary: int) -> Tensor:
    """Labels of that shape, half of them digits; every call gives the same ones."""
    shape, generator = tuple(shape), torch.Generator().manual_seed(0)
    words = torch.randint(0, vocabulary, shape, generator=generator)
    digits = DIGITS[torch.randint(0, 10, shape, generator=generator)]
    return digits.where(torch.rand(shape, generator=generator) < 0.5, words)


def _replace_parameters(model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
    """Replaces the model's parameters by others of the same shapes, in the same order."""
    replaced = dict(model.named_parameters())
    for (name, old), new in zip(replaced.items(), parameters, strict=True):
        if old.shape != new.shape:
            raise ValueError(f"{name} is {tuple(old.shape)} and not {tuple(new.shape)}")
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, new)
