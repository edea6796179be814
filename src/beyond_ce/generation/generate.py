"""The one entry to decoding."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from beyond_ce.errors import UsageError
from beyond_ce.generation.beam import decode_beams
from beyond_ce.generation.greedy import decode_greedily
from beyond_ce.models import LanguageModel

SEQUENCES_AT_ONCE = 256
"""Default of prompts times beams in one batch."""


@dataclass(frozen=True)
class Generation:
    """What `generate` returns.

    Attributes:
        tokens: the new tokens of each prompt, in the order of the prompts, EOS included when
            produced.
        tokens_per_forward: new tokens divided by forward passes, each pass counted once for every
            prompt in it: 1 for greedy decoding, less for beam search, where it looks past the end
            of the sequence it chooses.
    """

    tokens: list[list[int]]
    tokens_per_forward: float


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    eos_id: int | None = None,
    heads: int = 1,
    num_beams: int = 1,
    batch_size: int | None = None,
) -> Generation:
    """Continues every prompt, greedily or with beam search, on the model's device.

    Args:
        prompts: token lists of any lengths.
        max_new_tokens: longest continuation, EOS included.
        eos_id: the token that ends a continuation; None to always give `max_new_tokens`.
        heads: the model's heads to decode with.
        num_beams: width of the beam search, 1 for greedy decoding.
        batch_size: prompts decoded together, by default as many as make 256 sequences. It changes
            time and memory, not the result (up to rounding).

    Raises:
        UsageError: a number is out of range, or a prompt does not fit the model.
    """
    if batch_size is None:
        batch_size = max(1, SEQUENCES_AT_ONCE // max(1, num_beams))
    numbers = {
        "max_new_tokens": max_new_tokens,
        "heads": heads,
        "num_beams": num_beams,
        "batch_size": batch_size,
    }
    for name, value in numbers.items():
        if value < 1:
            raise UsageError(f"{name}={value}: give at least 1")
    if model.head.target != "tokens":
        raise UsageError(
            f"{type(model.head).__name__} predicts no tokens to generate: use answer()"
        )
    if heads > model.head.n:
        raise UsageError(f"heads={heads} > {model.head.n}: the model has {model.head.n} head(s)")
    stop = -1 if eos_id is None else eos_id  # no token has the id -1
    tokens: list[list[int]] = [[] for _ in prompts]
    forwards = 0
    # Prompts of one length share a batch with little padding; the longest first, so that a batch
    # that does not fit into memory fails at once.
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    training = model.training
    model.eval()
    try:
        for start in range(0, len(prompts), batch_size):
            rows = by_length[start : start + batch_size]
            batch = [prompts[i] for i in rows]
            if num_beams == 1:
                new, passes = decode_greedily(model, batch, max_new_tokens, stop)
            else:
                new, passes = decode_beams(model, batch, max_new_tokens, stop, num_beams)
            forwards += passes
            for i, row in zip(rows, new, strict=True):
                tokens[i] = row
    finally:
        model.train(training)
    return Generation(tokens, sum(map(len, tokens)) / max(1, forwards))
