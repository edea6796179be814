"""n heads: who reads whom, what leaves the trunk, and what is left without them."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from choices import choices, with_blocks
from omegaconf import DictConfig
from torch.nn import functional as F

from beyond_ce.configuration import build, compose
from beyond_ce.errors import UsageError
from beyond_ce.models import Decoder
from beyond_ce.models.heads import LMHead, MultiTokenHead

VOCAB, PAD, EOS = 30, 0, 1
# Those whose blocks are the trunk's own layers, with one unembedding.
ARCHITECTURES = [
    name
    for name in with_blocks(MultiTokenHead)
    if "linear" not in name and "replicated" not in name
]
BLOCKS = choices("head/block")
# Which blocks offset 0, 1 and 2 of three heads go through: appendix B of the paper, written out.
ORDERS = {
    "multi_token": [[0], [1], [2]],
    "multi_token_causal": [[0], [0, 1], [0, 1, 2]],
    "multi_token_anticausal": [[2, 1, 0], [2, 1], [2]],
}


@cache
def config(head: str, *overrides: str) -> DictConfig:
    return compose([f"head={head}", *overrides])


def make(head: str = "multi_token", *overrides: str, num_layers: int = 9) -> Decoder:
    torch.manual_seed(0)
    built = build(config(head, *overrides).head, "head")
    return Decoder(
        VOCAB, PAD, EOS, built, dim=16, num_layers=num_layers, num_heads=2,
        max_length=16, multiple_of=8,
    ).double()  # fmt: skip


def ordinary(num_layers: int = 9) -> Decoder:
    return make("lm", num_layers=num_layers)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(2, VOCAB, (2, 7), generator=torch.Generator().manual_seed(0))


def count(model: Decoder) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("head", ARCHITECTURES)
@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_parameters_are_those_of_the_ordinary_model(head: str, n: int) -> None:
    model = make(head, f"head.n={n}")
    assert count(model) == count(ordinary())
    assert len(model.layers) == 9 - n and len(model.head.blocks) == n


def test_extra_layers_go_to_the_trunk() -> None:
    model = make("multi_token", "head.n=4", "head.extra_layers=3")
    assert len(model.layers) == 8
    assert count(model) == count(ordinary(num_layers=12))


@pytest.mark.parametrize(
    "head", [("multi_token", "head/unembedding=replicated"), ("multi_token_replicated",)]
)
def test_a_replicated_unembedding_is_a_matrix_for_each_head(head: tuple[str, ...]) -> None:
    model = make(*head, "head.n=4")
    assert count(model) == count(ordinary()) + 3 * VOCAB * 16
    matrices = [model.head.unembedding(i) for i in range(4)]
    assert len({id(matrix) for matrix in matrices}) == 4
    model.head.share(torch.nn.Parameter(torch.ones(VOCAB, 16).double()))
    assert all((model.head.unembedding(i) == 1).all() for i in range(4))


@pytest.mark.parametrize("head", [("multi_token", "head/block=linear"), ("multi_token_linear",)])
def test_linear_blocks_leave_the_trunk_as_it_is(head: tuple[str, ...]) -> None:
    model = make(*head, "head.n=4")
    assert len(model.layers) == 9
    assert count(model) == count(ordinary()) + 3 * 16 * 16


def test_linear_heads_with_an_unembedding_each() -> None:
    model = make("multi_token_linear_replicated", "head.n=4")
    assert len(model.layers) == 9
    assert count(model) == count(ordinary()) + 3 * 16 * 16 + 3 * VOCAB * 16


@pytest.mark.parametrize("head", ARCHITECTURES)
def test_which_blocks_a_head_goes_through(head: str, tokens: torch.Tensor) -> None:
    assert head in ORDERS, f"conf/head/{head}.yaml has no order of blocks: write it above"
    model = make(head, "head.n=3")
    hidden = model.embedding(tokens)
    for layer in model.layers:
        hidden = layer(hidden)
    logits = model.logits(tokens)
    assert logits.shape == (2, 7, 3, VOCAB)
    for offset, blocks in enumerate(ORDERS[head]):
        state = hidden
        for i in blocks:
            state = model.head.blocks[i](state)
        expected = F.linear(model.head.norm(state), model.head.unembedding(offset))
        torch.testing.assert_close(logits[:, :, offset], expected)


@pytest.mark.parametrize("head", ARCHITECTURES)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_without_the_other_heads_the_ordinary_model_is_left(
    head: str, n: int, tokens: torch.Tensor
) -> None:
    model = make(head, f"head.n={n}")
    plain = model.next_token_model()
    assert isinstance(plain.head, LMHead)
    assert torch.equal(plain.logits(tokens)[:, :, 0], model.logits(tokens)[:, :, 0])
    assert {id(p) for p in plain.parameters()} <= {id(p) for p in model.parameters()}
    # Nothing but names sets it apart from a model that never had several heads.
    layers = 9 if "anticausal" in head else 10 - n
    ours = ordinary(num_layers=layers)
    ours.load_state_dict(plain.state_dict())
    assert torch.equal(ours.logits(tokens), plain.logits(tokens))


def test_the_first_head_of_one_is_the_ordinary_model() -> None:
    """The same layers in the same places, drawn in the same order."""
    one, plain = make("multi_token", "head.n=1"), ordinary()
    for a, b in zip(one.next_token_model().parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("head", ARCHITECTURES)
@pytest.mark.parametrize("block", BLOCKS)
def test_plain_decoding_uses_the_first_head(head: str, block: str, tokens: torch.Tensor) -> None:
    model = make(head, "head.n=3", f"head/block={block}")
    state, logits = model.prefill(tokens[:, :4].tolist(), max_new_tokens=4)
    full = model.logits(tokens)[:, :, 0]
    torch.testing.assert_close(logits, full[:, 3])
    for t in range(4, 7):
        torch.testing.assert_close(model.step(state, tokens[:, t]), full[:, t])


def test_half_precision_keeps_the_positions_apart() -> None:
    model = make("multi_token", "head.n=2").bfloat16()
    assert model.rotary.table.dtype == torch.float32
    assert torch.equal(model.rotary.table, make("lm").float().rotary.table)
    assert copy.deepcopy(model).rotary.table.dtype == torch.float32


@pytest.mark.parametrize("block", BLOCKS)
def test_autocast_leaves_the_last_norm_its_precision(block: str) -> None:
    model = make("multi_token", f"head/block={block}").float()
    hidden = torch.randn(2, 7, 16)
    with torch.autocast("cpu", torch.bfloat16):
        for offset in range(4):
            assert model.head.blocks(hidden, offset).dtype == torch.float32


def test_linear_blocks_in_front_of_the_next_token_leave_no_ordinary_model() -> None:
    with pytest.raises(UsageError, match="linear"):
        make("multi_token_anticausal", "head/block=linear").next_token_model()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["head.n=0"], "head.n=0"),
        (["head.n=10"], "head.n=10 takes 10 of the model's 9 layers"),
        (["head.extra_layers=-1"], "head.extra_layers=-1"),
        (["head.loss_weights=[1,1]"], "give 4 weights"),
        (
            ["head.loss_weights=[1,1,1,-1]"],
            "[1, 1, 1, -1]: give at least 0 for each",
        ),
    ],
)
def test_wrong_numbers_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        make("multi_token", *overrides)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_there_is_no_head_beyond_the_last() -> None:
    head: MultiTokenHead = make("multi_token", "head.n=2").head
    with pytest.raises(IndexError, match="offset 2"):
        head.unembedding(2)
    assert head.unembedding(1).shape == (VOCAB, 16)
