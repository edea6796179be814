"""Initialises a model from a checkpoint that may have fewer heads.

The MTP paper finetunes Llama 2 with several heads in this way (table S6).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from beyond_ce.checkpoints.formats import read_checkpoint
from beyond_ce.errors import UsageError
from beyond_ce.models.decoder import Decoder
from beyond_ce.models.heads import MultiTokenHead
from beyond_ce.models.layers import DecoderLayer

_MUST_MATCH = ("dim", "num_heads", "norm_eps", "rope_theta")
_MAY_BE_ADDED = ("num_kv_heads", "rope_scaling", "qkv_bias")  # not in conf/model/


@torch.no_grad()
def start_from(model: Decoder, folder: str | Path) -> None:
    """Copies a checkpoint's weights into a model, in place; other weights of the model stay.

    The layers on the way to the next token are copied to the model's layers on the way to the next
    token, the last one to the block of head 1. The blocks of further heads are copied if the
    checkpoint has them in the same architecture, and otherwise stay random.

    NOTE: without extra layers (`head.extra_layers`) the blocks of heads 2 to n replace n - 1
    layers. The paper does not say which. We drop those just below the last layer, so head 1 still
    ends in the layer that the unembedding was trained with.

    Args:
        folder: a checkpoint in any layout that `read_checkpoint` supports.

    Raises:
        UsageError: there is no checkpoint, or its size differs from the model's.
        RunError: a file or tensor is missing, damaged or unexpected.
    """
    source = read_checkpoint(folder).model
    layers, source_layers = _layers(model), _layers(source)
    _check_sizes(model, source, folder)
    ours, theirs = len(layers), len(source_layers)
    # The checkpoint may have more layers only if the model's further heads took the difference.
    if theirs != ours and not ours < theirs == _num_layers(model):
        raise UsageError(
            f"{folder} has {theirs} layers up to the next token, the model {ours}: "
            f"set model.num_layers={_num_layers(model) + theirs - ours}"
        )
    model.embedding.load_state_dict(source.embedding.state_dict())
    _norm(model).load_state_dict(_norm(source).state_dict())
    kept = [*source_layers[: ours - 1], source_layers[-1]]
    for layer, source_layer in zip(layers, kept, strict=True):
        layer.load_state_dict(source_layer.state_dict())
    pairs = _further_blocks(model, source)
    for block, source_block in pairs:
        block.load_state_dict(source_block.state_dict())
    # The next token's matrix comes last, so it wins if the heads share a matrix.
    for offset in reversed(range(model.head.n)):
        matrix = model.head.unembedding(offset)
        source_matrix = source.head.unembedding(offset if offset <= len(pairs) else 0)
        if matrix is not None and source_matrix is not None:
            matrix.copy_(source_matrix)


def _layers(model: Decoder) -> list[nn.Module]:
    """The layers on the way to the next token, head 1's block included."""
    if isinstance(model.head, MultiTokenHead):
        return list(model.next_token_model().layers)
    return list(model.layers)


def _norm(model: Decoder) -> nn.Module:
    return model.head.norm if isinstance(model.head, MultiTokenHead) else model.norm


def _num_layers(model: Decoder) -> int:
    """The `num_layers` that `Decoder` was built with."""
    head = model.head
    if not isinstance(head, MultiTokenHead):
        return len(model.layers)
    return len(model.layers) + (head.n if head.blocks.from_trunk else 0) - head.extra_layers


def _further_blocks(model: Decoder, source: Decoder) -> list[tuple[nn.Module, nn.Module]]:
    """Pairs of the blocks of heads 2, 3, .., if both models have them in the same architecture."""
    ours, theirs = model.head, source.head
    if not isinstance(ours, MultiTokenHead) or not isinstance(theirs, MultiTokenHead):
        return []
    if type(ours) is not type(theirs) or type(ours.blocks) is not type(theirs.blocks):
        return []
    return list(zip(ours.blocks, theirs.blocks, strict=False))[1:]


def _check_sizes(model: Decoder, source: Decoder, folder: str | Path) -> None:
    for key in _MUST_MATCH:
        if model.settings[key] != source.settings[key]:
            raise UsageError(
                f"model.{key}={model.settings[key]}, but {folder} has {source.settings[key]}: "
                f"set model.{key}={source.settings[key]}"
            )
    for key in _MAY_BE_ADDED:
        if model.settings[key] != source.settings[key]:
            value = str(source.settings[key]).replace("'", "")  # as Hydra reads it
            value = "null" if value == "None" else value
            raise UsageError(
                f"model.{key}={model.settings[key]}, but {folder} has {source.settings[key]}: "
                f"set '++model.{key}={value}'"
            )
    if model.settings["tie_embeddings"] and not source.settings["tie_embeddings"]:
        raise UsageError(
            f"model.tie_embeddings=true, but {folder} has an unembedding of its own: "
            "set ++model.tie_embeddings=false"
        )
    ours, theirs = _hidden_dim(model), _hidden_dim(source)
    if ours != theirs:
        raise UsageError(
            f"model.multiple_of={model.settings['multiple_of']} gives a feed-forward size of "
            f"{ours}, but {folder} has {theirs}: "
            f"set model.multiple_of={source.settings['multiple_of']}"
        )
    ours, theirs = model.embedding.num_embeddings, source.embedding.num_embeddings
    if ours != theirs:
        raise UsageError(
            f"{folder} has a vocabulary of {theirs} tokens, the tokenizer {ours}: choose the "
            "checkpoint's own (tokenizer=sentencepiece tokenizer.model=<folder>)"
        )


def _hidden_dim(model: Decoder) -> int:
    layer = _layers(model)[0]
    assert isinstance(layer, DecoderLayer)
    return layer.feed_forward.w1.out_features
