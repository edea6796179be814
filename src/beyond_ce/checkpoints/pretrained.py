"""Starting a model from a checkpoint that may have fewer heads than it.

This is how the MTP paper finetunes Llama 2 with several heads (table S6).
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

_SAME = ("dim", "num_heads", "norm_eps", "rope_theta")


@torch.no_grad()
def start_from(model: Decoder, folder: str | Path) -> None:
    """Gives a model the weights of a checkpoint, in place; what those lack stays as it is.

    The layers up to the next token go to the layers up to the next token, the last of them to the
    block of head 1. Further heads keep their blocks if the checkpoint has them in the same
    architecture, and otherwise stay random.

    NOTE: without extra layers (`head.extra_layers`) the blocks of heads 2 to n take the place of
    n - 1 layers. The paper does not say which; here those just below the last go, so that head 1
    still ends in the layer that the unembedding was trained with.

    Args:
        folder: in any layout that `read_checkpoint` knows.

    Raises:
        UsageError: there is no checkpoint, or it is of another size than the model.
        RunError: a file or tensor is missing, damaged or too many.
    """
    source = read_checkpoint(folder).model
    layers, found = _layers(model), _layers(source)
    _check_sizes(model, source, folder)
    # More than it needs are right only if its own heads have taken the difference.
    if len(found) != len(layers) and not len(layers) < len(found) == _num_layers(model):
        difference = len(found) - len(layers)
        raise UsageError(
            f"{folder} has {len(found)} layers up to the next token, the model {len(layers)}: "
            f"set model.num_layers={_num_layers(model) + difference}"
        )
    model.embedding.load_state_dict(source.embedding.state_dict())
    _norm(model).load_state_dict(_norm(source).state_dict())
    for layer, theirs in zip(layers, [*found[: len(layers) - 1], found[-1]], strict=True):
        layer.load_state_dict(theirs.state_dict())
    pairs = _further_blocks(model, source)
    for block, theirs in pairs:
        block.load_state_dict(theirs.state_dict())
    # The next token's last, which is the one that counts if heads share a matrix.
    for offset in reversed(range(model.head.n)):
        matrix = model.head.unembedding(offset)
        found_matrix = source.head.unembedding(offset if offset <= len(pairs) else 0)
        if matrix is not None and found_matrix is not None:
            matrix.copy_(found_matrix)


def _layers(model: Decoder) -> list[nn.Module]:
    """Those that a state goes through on its way to the next token."""
    if isinstance(model.head, MultiTokenHead):
        return list(model.next_token_model().layers)
    return list(model.layers)


def _norm(model: Decoder) -> nn.Module:
    return model.head.norm if isinstance(model.head, MultiTokenHead) else model.norm


def _num_layers(model: Decoder) -> int:
    """What `Decoder` was given as such."""
    head = model.head
    if not isinstance(head, MultiTokenHead):
        return len(model.layers)
    return len(model.layers) + (head.n if head.blocks.lent else 0) - head.extra_layers


def _further_blocks(model: Decoder, source: Decoder) -> list[tuple[nn.Module, nn.Module]]:
    """Blocks of heads 2, 3, .. that both have in the same architecture, ours and theirs."""
    ours, theirs = model.head, source.head
    if not isinstance(ours, MultiTokenHead) or not isinstance(theirs, MultiTokenHead):
        return []
    if type(ours) is not type(theirs) or type(ours.blocks) is not type(theirs.blocks):
        return []
    return list(zip(ours.blocks, theirs.blocks, strict=False))[1:]


def _check_sizes(model: Decoder, source: Decoder, folder: str | Path) -> None:
    for key in _SAME:
        if model.settings[key] != source.settings[key]:
            raise UsageError(
                f"model.{key}={model.settings[key]}, but {folder} has {source.settings[key]}: "
                f"set model.{key}={source.settings[key]}"
            )
    ours, theirs = (_hidden_dim(each) for each in (model, source))
    if ours != theirs:
        raise UsageError(
            f"model.multiple_of={model.settings['multiple_of']} makes a feed-forward size of "
            f"{ours}, but {folder} has {theirs}: "
            f"set model.multiple_of={source.settings['multiple_of']}"
        )
    ours, theirs = (each.embedding.num_embeddings for each in (model, source))
    if ours != theirs:
        raise UsageError(
            f"{folder} has a vocabulary of {theirs} tokens, the tokenizer {ours}: choose the "
            "checkpoint's own (tokenizer=sentencepiece tokenizer.model=<folder>)"
        )


def _hidden_dim(model: Decoder) -> int:
    layer = _layers(model)[0]
    assert isinstance(layer, DecoderLayer)
    return layer.feed_forward.w1.out_features
