"""How much memory of a device a decoder's training takes, from its config: nothing is run.

Counted are the weights, their gradients and AdamW's two moments in float32 (16 bytes for each),
what FSDP gathers, and the activations of the step in `Objective`: the input of every trunk layer
(with activation checkpointing; all activations otherwise), the activations of one layer, and four
states for gradients. The rest, a few percent, is not: chunks of logits, buffers, fragmentation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from omegaconf import DictConfig

from beyond_ce.models.heads import MultiTokenHead, TransformerBlocks
from beyond_ce.reproduction.measurements.random_models import random_decoder

_FLOAT = 4  # bytes of a float32
_GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """GiB on each device.

    Attributes:
        states: weights and the optimizer's moments, its share of them under FSDP.
        gradients: of the weights, and under FSDP also what is gathered to compute them.
        activations: of one micro-batch.
    """

    states: float
    gradients: float
    activations: float

    @property
    def total(self) -> float:
        return self.states + self.gradients + self.activations


def estimate_memory(config: DictConfig, vocabulary: int) -> Memory:
    """The memory that a decoder's training takes on each of `trainer.devices` devices.

    FSDP holds a share of weights, gradients and moments in float32, and gathers the whole model and
    its gradient in the precision of the products: the model is one unit.

    Args:
        config: of a run on a corpus, with a `Decoder`.
        vocabulary: number of tokens.
    """
    with torch.device("meta"):
        model = random_decoder(config, vocabulary)
    parameters = sum(p.numel() for p in model.parameters())
    product = _FLOAT if config.trainer.precision == "32-true" else 2
    sharded = config.trainer.strategy == "fsdp"
    shards = config.trainer.devices if sharded else 1
    gathered = 2 * product * parameters if sharded else 0
    rows = config.trainer.batch_size // (config.trainer.devices * config.trainer.accumulate)
    tokens = rows * config.dataset.sequence_length
    dim = config.model.dim
    inner = next(p for name, p in model.named_parameters() if name.endswith("w1.weight")).shape[0]
    # Of one layer: the inputs of both norms in float32; their outputs, queries, keys, values, the
    # attention's result as it leaves the kernel and in the order of the next product; both halves
    # of the feed-forward layer, the activated one and the product.
    layer = tokens * (2 * _FLOAT * dim + product * (7 * dim + 4 * inner))
    state = _FLOAT * tokens * dim
    depth, head = len(model.layers), model.head
    if model.checkpoint_activations:
        kept = depth * state + layer  # one layer at a time, be it the head's or computed again
    else:
        takes_layers = isinstance(head, MultiTokenHead) and isinstance(
            head.blocks, TransformerBlocks
        )
        kept = (depth + takes_layers) * layer
    return Memory(
        states=3 * _FLOAT * parameters / shards / _GIB,
        gradients=(_FLOAT * parameters / shards + gathered) / _GIB,
        activations=(kept + 4 * state) / _GIB,
    )
