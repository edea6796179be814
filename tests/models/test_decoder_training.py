"""The decoder in training: activation checkpointing, and torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from beyond_ce.batches.batch import Batch
from beyond_ce.losses import CrossEntropy
from beyond_ce.models import Decoder
from beyond_ce.models.heads import (
    LMHead,
    MultiTokenHead,
    SharedUnembedding,
    TransformerBlocks,
)
from beyond_ce.training.objective import Objective

VOCAB, LAYERS = 30, 6
TOKENS = torch.arange(24).reshape(2, 12) % VOCAB
BATCH = Batch(TOKENS, torch.ones_like(TOKENS, dtype=torch.bool), labels=TOKENS.roll(-1, 1))


def make(checkpoint_activations: bool, heads: int = 1, layers: int = LAYERS) -> Decoder:
    torch.manual_seed(0)
    head = partial(MultiTokenHead, n=heads, block=TransformerBlocks, unembedding=SharedUnembedding)
    return Decoder(
        VOCAB, 0, 1, head if heads > 1 else LMHead, dim=16, num_layers=layers, num_heads=2,
        max_length=16, multiple_of=8,
        checkpoint_activations=checkpoint_activations,
    )  # fmt: skip


def train_once(model: Decoder) -> list[Tensor]:
    total, _ = Objective(model, CrossEntropy(torch.full((VOCAB,), torch.nan)))(BATCH)
    total.backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def kept_bytes(model: Decoder) -> int:
    """What the trunk's graph holds for the backward pass beside the parameters."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.trunk(BATCH)
    return sum(kept.values())


@pytest.mark.parametrize("heads", [1, 3])
def test_checkpointing_changes_no_gradient(heads: int) -> None:
    plain, again = (train_once(make(each, heads)) for each in (False, True))
    assert len(plain) == len(again) > 0
    for a, b in zip(plain, again, strict=True):
        assert torch.equal(a, b)


def test_checkpointing_keeps_less() -> None:
    assert kept_bytes(make(True)) < 0.2 * kept_bytes(make(False))


def test_layers_run_again_in_training_only() -> None:
    model, calls = make(True), []
    model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    train_once(model)
    assert len(calls) == 2
    with torch.no_grad():
        model.trunk(BATCH)
    model.eval()
    train_once(model)
    assert len(calls) == 4


def test_the_next_token_model_is_checkpointed_as_well() -> None:
    assert make(True, 3).next_token_model().checkpoint_activations


@pytest.mark.parametrize(
    ("backend", "heads", "checkpoint_activations"),
    [
        ("aot_eager", 1, False),
        ("aot_eager", 3, False),
        ("aot_eager", 3, True),
        pytest.param("inductor", 3, False, marks=pytest.mark.slow),
    ],
)
def test_compiles_without_a_break(backend: str, heads: int, checkpoint_activations: bool) -> None:
    model = make(checkpoint_activations, heads, layers=heads + 1)  # each takes time to trace
    compiled = torch.compile(model.logits, fullgraph=True, backend=backend)

    def run(logits_of: Callable[[Tensor], Tensor]) -> list[Tensor]:
        model.zero_grad()
        logits = logits_of(TOKENS)
        logits.logsumexp(-1).sum().backward()
        return [logits.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]

    for ours, expected in zip(run(compiled), run(model.logits), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
