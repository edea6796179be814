"""Initialises a model from another one, or from a checkpoint, whose heads may differ.

The MTP paper finetunes Llama 2 with several heads in this way (table S6).
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from beyond_ce.checkpoints.formats import read_checkpoint
from beyond_ce.errors import UsageError
from beyond_ce.models.base import LanguageModel
from beyond_ce.models.decoder import Decoder
from beyond_ce.models.heads import MultiTokenHead
from beyond_ce.models.layers import DecoderLayer
from beyond_ce.storage.hub import checkpoint_folder

_MUST_MATCH = ("dim", "num_heads", "norm_eps", "rope_theta")
_MAY_BE_ADDED = ("num_kv_heads", "rope_scaling", "qkv_bias")  # not in conf/model/


def start_from(model: Decoder, name: str | Path) -> None:
    """Copies a checkpoint's weights into a model, in place (see `copy_weights`).

    Args:
        name: a folder with a checkpoint in any layout that `read_checkpoint` supports, or its name
            on the Hugging Face hub.

    Raises:
        UsageError: there is no checkpoint, or its size differs from the model's.
        RunError: a file or tensor is missing, damaged or unexpected.
    """
    source = read_checkpoint(checkpoint_folder(name, "model.pretrained"))
    copy_weights(model, source.model, str(name))


@torch.no_grad()
def copy_weights(model: LanguageModel, source: LanguageModel, name: str) -> None:
    """Copies weights between two models of one kind and size, in place.

    The heads may differ: what the source's head lacks stays as it is in the model.

    Args:
        name: of the source, for messages.

    Raises:
        UsageError: the models differ in class or size.
    """
    decoders = isinstance(model, Decoder) and isinstance(source, Decoder)
    if type(model) is not type(source) and not decoders:
        raise UsageError(
            f"{name} has a {type(source).__name__}, from which model {type(model).__name__} cannot "
            "start: choose a model of its class and size, or start=random"
        )
    if isinstance(model, Decoder) and isinstance(source, Decoder):
        _copy_decoder(model, source, name)
    else:
        _copy_trunk_and_head(model, source, name)


def _copy_trunk_and_head(model: LanguageModel, source: LanguageModel, name: str) -> None:
    theirs = source.state_dict()
    ours = model.state_dict()
    trunk = {key for key in ours if not key.startswith("head.")}
    kinds = {_kind(key) for key in trunk}
    # A head may leave out a part, such as T5's decoder, but none of its layers.
    further = {key for key in theirs if not key.startswith("head.") and _kind(key) in kinds}
    for key in sorted(trunk | further):
        shapes = [
            tuple(weights[key].shape) if key in weights else "no such weights"
            for weights in (ours, theirs)
        ]
        if shapes[0] != shapes[1]:
            raise UsageError(
                f"{name} has {shapes[1]} for {key}, the model {shapes[0]}: choose a model of its "
                "size, or start=random"
            )
    head = set(ours) - trunk
    same = all(key in theirs and theirs[key].shape == ours[key].shape for key in head)
    copied = trunk | (head if same and type(model.head) is type(source.head) else set())
    for key in copied:
        ours[key].copy_(theirs[key])
    # A head of another kind may still have the same unembedding.
    _copy_unembeddings(model, source, 0)


def _kind(key: str) -> str:
    """A weight's name without the numbers of layers."""
    return re.sub(r"\d+", "#", key)


def _copy_decoder(model: Decoder, source: Decoder, name: str) -> None:
    """Also between heads that take different numbers of layers.

    The layers on the way to the next token are copied to the model's layers on the way to the next
    token, the last one to the block of head 1. The blocks of further heads are copied if the
    source has them in the same architecture, and otherwise stay random.

    NOTE: without extra layers (`head.extra_layers`) the blocks of heads 2 to n replace n - 1
    layers. The paper does not say which. We drop those just below the last layer, so head 1 still
    ends in the layer that the unembedding was trained with.
    """
    layers, source_layers = _layers(model), _layers(source)
    _check_sizes(model, source, name)
    ours, theirs = len(layers), len(source_layers)
    # The source may have more layers only if the model's further heads took the difference.
    if theirs != ours and not ours < theirs == num_layers(model):
        raise UsageError(
            f"{name} has {theirs} layers up to the next token, the model {ours}: "
            f"set model.num_layers={num_layers(model) + theirs - ours}"
        )
    model.embedding.load_state_dict(source.embedding.state_dict())
    _norm(model).load_state_dict(_norm(source).state_dict())
    kept = [*source_layers[: ours - 1], source_layers[-1]]
    for layer, source_layer in zip(layers, kept, strict=True):
        layer.load_state_dict(source_layer.state_dict())
    pairs = _further_blocks(model, source)
    for block, source_block in pairs:
        block.load_state_dict(source_block.state_dict())
    # Not as many as blocks, of which recurrent heads share one.
    further = min(model.head.n, source.head.n) - 1 if pairs else 0
    _copy_unembeddings(model, source, further)
    counts, theirs_counts = (getattr(m.head, "token_counts", None) for m in (model, source))
    if counts is not None and theirs_counts is not None and counts.shape == theirs_counts.shape:
        counts.copy_(theirs_counts)  # what further heads draft


def _copy_unembeddings(model: LanguageModel, source: LanguageModel, further: int) -> None:
    """Copies the heads' matrices; heads beyond `further` get the next token's."""
    # The next token's matrix comes last, so it wins if the heads share a matrix.
    for offset in reversed(range(model.head.n)):
        matrix = model.head.unembedding(offset)
        source_matrix = source.head.unembedding(offset if offset <= further else 0)
        if matrix is not None and source_matrix is not None:
            matrix.copy_(source_matrix)


def _layers(model: Decoder) -> list[nn.Module]:
    """The layers on the way to the next token, head 1's block included."""
    if isinstance(model.head, MultiTokenHead):
        return list(model.next_token_model().layers)
    return list(model.layers)


def _norm(model: Decoder) -> nn.Module:
    return model.head.norm if isinstance(model.head, MultiTokenHead) else model.norm


def num_layers(model: Decoder) -> int:
    """The `num_layers` that `Decoder` was built with."""
    head = model.head
    if not isinstance(head, MultiTokenHead):
        return len(model.layers)
    return len(model.layers) + head.blocks.taken - head.extra_layers


def _further_blocks(model: Decoder, source: Decoder) -> list[tuple[nn.Module, nn.Module]]:
    """Pairs of the blocks of heads 2, 3, .., if both models have them in the same architecture."""
    ours, theirs = model.head, source.head
    if not isinstance(ours, MultiTokenHead) or not isinstance(theirs, MultiTokenHead):
        return []
    if type(ours) is not type(theirs) or type(ours.blocks) is not type(theirs.blocks):
        return []
    return list(zip(ours.blocks, theirs.blocks, strict=False))[1:]


def _check_sizes(model: Decoder, source: Decoder, name: str) -> None:
    for key in _MUST_MATCH:
        if model.settings[key] != source.settings[key]:
            raise UsageError(
                f"model.{key}={model.settings[key]}, but {name} has {source.settings[key]}: "
                f"set model.{key}={source.settings[key]}"
            )
    for key in _MAY_BE_ADDED:
        if model.settings[key] != source.settings[key]:
            value = str(source.settings[key]).replace("'", "")  # as Hydra reads it
            value = "null" if value == "None" else value
            raise UsageError(
                f"model.{key}={model.settings[key]}, but {name} has {source.settings[key]}: "
                f"set '++model.{key}={value}'"
            )
    if model.settings["tie_embeddings"] and not source.settings["tie_embeddings"]:
        raise UsageError(
            f"model.tie_embeddings=true, but {name} has an unembedding of its own: "
            "set ++model.tie_embeddings=false"
        )
    ours, theirs = _hidden_dim(model), _hidden_dim(source)
    if ours != theirs:
        raise UsageError(
            f"model.multiple_of={model.settings['multiple_of']} gives a feed-forward size of "
            f"{ours}, but {name} has {theirs}: "
            f"set model.multiple_of={source.settings['multiple_of']}"
        )
    ours, theirs = model.embedding.num_embeddings, source.embedding.num_embeddings
    if ours != theirs:
        raise UsageError(
            f"{name} has a vocabulary of {theirs} tokens, the tokenizer {ours}: choose the "
            "checkpoint's own (tokenizer=sentencepiece tokenizer.model=<folder>)"
        )


def _hidden_dim(model: Decoder) -> int:
    layer = _layers(model)[0]
    assert isinstance(layer, DecoderLayer)
    return layer.feed_forward.w1.out_features
