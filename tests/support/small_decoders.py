"""Decoders of a few thousand weights that read bytes."""

from __future__ import annotations

import torch

from beyond_ce.configuration import compose
from beyond_ce.models import Decoder
from beyond_ce.runs.assembly import build_model
from beyond_ce.tokenizers import ByteTokenizer


def byte_decoder(n: int) -> Decoder:
    """A decoder with `n` heads and a context of 64 tokens; its weights depend on `n` alone."""
    torch.manual_seed(n)
    head = ["head=lm"] if n == 1 else ["head=multi_token", f"head.n={n}"]
    config = compose(["model=decoder_small_5_layers", "model.max_length=64", *head])
    return build_model(config, ByteTokenizer())
