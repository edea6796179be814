from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from beyond_ce.checkpoints import start_from
from beyond_ce.checkpoints.pretrained import copy_weights
from beyond_ce.errors import UsageError
from beyond_ce.models import Decoder, load_llama_checkpoint
from beyond_ce.models.heads import (
    AnticausalMultiTokenHead,
    CausalMultiTokenHead,
    Head,
    LinearBlocks,
    LMHead,
    MultiTokenHead,
    RecurrentMultiTokenHead,
    RegressionHead,
    ReplicatedUnembedding,
    SharedUnembedding,
    TransformerBlocks,
)

Release = Callable[..., Path]
HEADS = partial(MultiTokenHead, block=TransformerBlocks, unembedding=SharedUnembedding)


def make(
    head: Callable[..., Head], num_layers: int = 6, pretrained: Path | None = None, **keys: float
) -> Decoder:
    torch.manual_seed(0)
    settings = {"dim": 32, "num_heads": 4, "max_length": 64, "multiple_of": 16, **keys}
    name = None if pretrained is None else str(pretrained)
    return started(Decoder(52, 0, 2, head, num_layers=num_layers, pretrained=name, **settings))


def started(model: Decoder) -> Decoder:
    """As `build_model` does."""
    if model.pretrained is not None:
        start_from(model, model.pretrained)
    return model


def next_logits(model: Decoder, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return model.logits(tokens)[:, :, 0]


@pytest.mark.parametrize(
    "head",
    [
        LMHead,
        partial(HEADS, n=4, extra_layers=3),
        partial(HEADS, n=4, extra_layers=3, unembedding=ReplicatedUnembedding),
        partial(HEADS, n=4, block=LinearBlocks),
        partial(CausalMultiTokenHead, n=2, extra_layers=1, block=TransformerBlocks,
                unembedding=SharedUnembedding),
        partial(AnticausalMultiTokenHead, n=2, block=TransformerBlocks,
                unembedding=SharedUnembedding),
    ],
)  # fmt: skip
def test_an_ordinary_model_is_what_head_1_starts_as(
    release: Release, tokens: Tensor, head: Callable[..., Head]
) -> None:
    folder = release(1)
    model = make(head, pretrained=folder)
    expected = next_logits(load_llama_checkpoint(folder), tokens)
    assert torch.equal(next_logits(model, tokens), expected)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_new_heads_are_as_random_as_in_a_new_model(release: Release) -> None:
    head = partial(HEADS, n=4, extra_layers=3, unembedding=ReplicatedUnembedding)
    model, fresh = make(head, pretrained=release(1)), make(head)
    for offset in (1, 2, 3):
        ours, new = (each.head.blocks[offset].state_dict() for each in (model, fresh))
        assert all(torch.equal(ours[name], value) for name, value in new.items())
        assert torch.equal(model.head.unembedding(offset), model.head.unembedding(0))


def test_without_extra_layers_those_below_the_last_go(release: Release) -> None:
    folder = release(1)
    model, source = make(partial(HEADS, n=4), pretrained=folder), load_llama_checkpoint(folder)
    pairs = [*zip(model.layers, [0, 1], strict=True), (model.head.blocks[0], 5)]
    for layer, place in pairs:
        expected = source.layers[place].state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize(("n", "num_layers"), [(4, 6), (2, 4), (1, 3), (6, 8)])
def test_heads_of_the_checkpoint_are_kept(
    release: Release, tokens: Tensor, n: int, num_layers: int
) -> None:
    folder = release(4)
    model = make(partial(HEADS, n=n), num_layers, folder)
    source = load_llama_checkpoint(folder)
    with torch.no_grad():
        common = min(n, 4)
        ours, theirs = (each.logits(tokens)[:, :, :common] for each in (model, source))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("head", [HEADS, RecurrentMultiTokenHead])
def test_all_of_a_head_is_kept_that_both_have(head: Callable[..., Head]) -> None:
    settings = {"unembedding": ReplicatedUnembedding, "draft_vocabulary": 4}
    source = make(partial(head, n=4, **settings))
    with torch.no_grad():
        for matrix in source.head.unembeddings.parameters():
            matrix.normal_()
    source.head.count(torch.arange(20, 30))
    model = make(partial(head, n=4, **settings))
    copy_weights(model, source, "it")
    for name, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name
    assert torch.equal(model.head.draft_ids(52), torch.arange(20, 24))
    fewer = make(
        partial(head, n=3, unembedding=ReplicatedUnembedding), num_layers=model_layers(head)
    )
    copy_weights(fewer, source, "it")
    for offset in range(3):
        assert torch.equal(fewer.head.unembedding(offset), source.head.unembedding(offset))


def model_layers(head: Callable[..., Head]) -> int:
    """So that three heads have as many layers up to head 1 as four of six layers."""
    return 5 if head is HEADS else 6


def test_a_head_that_predicts_a_value_takes_the_trunk(release: Release) -> None:
    folder = release(1)
    model, source = make(RegressionHead, pretrained=folder), load_llama_checkpoint(folder)
    for part in ("embedding", "layers", "norm"):
        expected = getattr(source, part).state_dict()
        for name, value in getattr(model, part).state_dict().items():
            assert torch.equal(value, expected[name])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_layers": 5}, "has 6 layers up to the next token, the model 5: .*num_layers=6"),
        ({"dim": 64}, "model.dim=64, but .* has 32: set model.dim=32"),
        ({"num_heads": 2}, "model.num_heads=2, but .* has 4"),
        ({"norm_eps": 1e-6}, "model.norm_eps=1e-06, but .* has 1e-05"),
        ({"rope_theta": 1e6}, "model.rope_theta=1000000.0, but .* has 10000.0"),
        ({"multiple_of": 256}, "size of 256, but .* has 96: set model.multiple_of=16"),
    ],
)
def test_another_size_is_refused(release: Release, keys: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as found:
        make(LMHead, pretrained=release(1), **keys)
    assert "\n" not in str(found.value)


def test_another_tokenizer_or_number_of_layers_is_refused(release: Release) -> None:
    folder = release(1)
    with pytest.raises(UsageError, match="a vocabulary of 52 tokens, the tokenizer 40"):
        started(Decoder(40, 0, 2, LMHead, 32, 6, 4, 64, multiple_of=16, pretrained=str(folder)))
    with pytest.raises(UsageError, match=r"6 layers .* the model 5: set model.num_layers=8"):
        make(partial(HEADS, n=4, extra_layers=1), 7, folder)
    with pytest.raises(UsageError, match=r"6 layers .* the model 8: set model.num_layers=4"):
        make(partial(HEADS, n=4, extra_layers=5), 6, folder)
    model = make(partial(HEADS, n=4, extra_layers=1), 8, folder)
    assert len(model.layers) == 5
