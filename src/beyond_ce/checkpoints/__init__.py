"""Decoder checkpoints in three layouts: the released Llama one, Hugging Face's, and our own."""

from beyond_ce.checkpoints.checkpoint import Checkpoint
from beyond_ce.checkpoints.formats import (
    FORMATS,
    load_decoder,
    load_llama_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from beyond_ce.checkpoints.pretrained import copy_weights, start_from
from beyond_ce.checkpoints.pretrained_decoder import PretrainedDecoder

__all__ = [
    "FORMATS",
    "Checkpoint",
    "PretrainedDecoder",
    "copy_weights",
    "load_decoder",
    "load_llama_checkpoint",
    "read_checkpoint",
    "start_from",
    "write_checkpoint",
]
