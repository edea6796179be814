"""Decoding with several heads gives what decoding with one gives, in fewer forwards."""

from __future__ import annotations

from functools import partial
from itertools import chain

import pytest
import torch
from choices import classes, target, with_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from beyond_ce.errors import RunError, UsageError
from beyond_ce.evaluation.self_speculation import differences
from beyond_ce.generation import generate
from beyond_ce.generation.self_speculative import decode_self_speculatively
from beyond_ce.generation.token_by_token import decode_token_by_token
from beyond_ce.models import T5, Decoder
from beyond_ce.models.heads import (
    LMHead,
    MultiTokenHead,
    SharedUnembedding,
    TransformerBlocks,
)

PAD, EOS = 0, 1
HEADS = [target("head", name) for name in with_blocks(MultiTokenHead)]
BLOCKS = classes("head/block")
CYCLE = [2, 3, 4, 5, 6, 7, 8]


def make(head=MultiTokenHead, block=TransformerBlocks, n=4, vocab_size=9, **settings) -> Decoder:
    unembedding = settings.pop("unembedding", SharedUnembedding)
    built = partial(head, n=n, block=block, unembedding=unembedding)
    settings = {"dim": 16, "num_layers": 5, "num_heads": 2, "max_length": 48} | settings
    return Decoder(vocab_size, PAD, EOS, built, multiple_of=8, **settings).eval()


def greedily(model, prompts, max_new_tokens, end_ids=()):
    tell = lambda row, tokens: None  # noqa: E731
    return decode_token_by_token(model, prompts, max_new_tokens, end_ids, None, tell)


def train(model: Decoder, rows: torch.Tensor, steps: int) -> Decoder:
    """Teaches all heads to continue the rows."""
    n = model.head.n
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(steps):
        logits = model.logits(rows[:, :-n])
        labels = rows[:, 1:].unfold(1, n, 1)
        F.cross_entropy(logits.flatten(0, 2), labels.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module", params=HEADS)
def counter(request) -> Decoder:
    """Has learned to count through the cycle, with all heads."""
    torch.manual_seed(0)
    rows = torch.tensor([(CYCLE * 6)[i : i + 30] for i in range(len(CYCLE))])
    return train(make(request.param), rows, steps=40).double()


@pytest.fixture(scope="module")
def stutterer() -> Decoder:
    """Has learned to count with random pauses: its later heads are often wrong."""
    torch.manual_seed(0)
    steps = torch.rand(32, 40, generator=torch.Generator().manual_seed(0)) < 0.6
    return train(make(), 2 + steps.cumsum(dim=1) % 7, steps=40).double()


prompts_of = partial(st.lists, st.lists(st.integers(2, 4), min_size=1, max_size=6), min_size=1)


@settings(deadline=None, max_examples=40)
@given(
    head=st.sampled_from(HEADS),
    block=st.sampled_from(BLOCKS),
    unembedding=st.sampled_from(classes("head/unembedding")),
    n=st.integers(1, 5),
    seed=st.integers(0, 1000),
    prompts=prompts_of(max_size=8),
    max_new_tokens=st.integers(1, 20),
    end_ids=st.sampled_from([(), (1,), (1, 3)]),
    data=st.data(),
)
def test_equals_greedy(
    head, block, unembedding, n, seed, prompts, max_new_tokens, end_ids, data
) -> None:
    # With five tokens even random heads are right at times.
    torch.manual_seed(seed)
    model = make(head, block, n, vocab_size=5, unembedding=unembedding).double()
    torch.nn.init.normal_(model.head.unembedding())
    heads = data.draw(st.integers(1, n))
    expected, forwards = greedily(model, prompts, max_new_tokens, end_ids)
    found, fewer = decode_self_speculatively(model, prompts, max_new_tokens, end_ids, heads)
    assert found == expected
    assert forwards / heads <= fewer <= forwards


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("heads", [1, 2, 3, 4])
def test_equals_greedy_where_some_drafts_hold(stutterer, batch_size, heads) -> None:
    draw = torch.Generator().manual_seed(1)
    prompts = [
        torch.randint(2, 9, (length,), generator=draw).tolist() for length in range(1, 1 + 8)
    ]
    expected = generate(stutterer, prompts, 40)
    found = generate(stutterer, prompts, 40, heads=heads, batch_size=batch_size)
    assert found.tokens == expected.tokens
    assert found.tokens_per_forward == 1 if heads == 1 else 1 < found.tokens_per_forward < heads
    # An end within a block.
    for eos_id in (2, 7, (2, 7), [7, 3]):
        expected = generate(stutterer, prompts, 40, eos_id)
        found = generate(stutterer, prompts, 40, eos_id, heads, batch_size=batch_size)
        assert found.tokens == expected.tokens


def test_no_sequence_waits_for_another(stutterer) -> None:
    prompts = [[2, 3], [4, 4, 5, 6, 7], [8], [2, 2, 2, 3]]
    together = decode_self_speculatively(stutterer, prompts, 30, (8,), 3)
    alone = [decode_self_speculatively(stutterer, [prompt], 30, (8,), 3) for prompt in prompts]
    assert together[0] == [tokens[0] for tokens, _ in alone]
    assert together[1] == sum(forwards for _, forwards in alone)


@pytest.mark.parametrize("heads", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [1, 2, 5, 20])
def test_drafts_that_all_hold(counter, heads, length) -> None:
    prompt = CYCLE * 2
    found, forwards = decode_self_speculatively(counter, [prompt], length, (), heads)
    assert found == [(CYCLE * 5)[:length]]
    assert forwards == 1 + -(-(length - 1) // heads)


def test_an_end_inside_a_block_ends_it_there(counter) -> None:
    pieces: list[list[int]] = []
    tell = lambda row, tokens: pieces.append(tokens)  # noqa: E731
    found, forwards = decode_self_speculatively(counter, [CYCLE * 2], 20, (4,), 4, tell)
    assert found == [[2, 3, 4]]
    assert (pieces, forwards) == ([[2], [3, 4]], 2)


def test_tells_of_every_forward(counter) -> None:
    pieces: dict[int, list[list[int]]] = {0: [], 1: []}
    prompts = [CYCLE * 2, CYCLE * 2 + [2]]
    tell = lambda row, tokens: pieces[row].append(tokens)  # noqa: E731
    found, forwards = decode_self_speculatively(counter, prompts, 10, (), 3, tell)
    assert [list(chain(*pieces[row])) for row in (0, 1)] == found
    assert [list(map(len, pieces[row])) for row in (0, 1)] == [[1, 3, 3, 3]] * 2
    assert forwards == 8


@pytest.mark.parametrize("batch", [1, 3])
def test_the_whole_context_can_be_used(stutterer, batch) -> None:
    prompts = [[2, 3, 4, 5][: 4 - i] for i in range(batch)]
    expected, _ = greedily(stutterer, prompts, stutterer.max_length - 3)
    found, _ = decode_self_speculatively(stutterer, prompts, stutterer.max_length - 3, (), 4)
    assert found == expected
    with pytest.raises(UsageError, match="context of 48"):
        decode_self_speculatively(stutterer, prompts, stutterer.max_length - 2, (), 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head", HEADS)
def test_differs_at_near_ties_only(head, dtype) -> None:
    """Large enough for packed matrices, and drafts in bfloat16."""
    torch.manual_seed(0)
    model = make(head, n=3, vocab_size=400, dim=384, num_layers=4, num_heads=6).to(dtype)
    prompts = torch.randint(2, 400, (4, 9)).tolist()
    expected, _ = greedily(model, prompts, 12)
    found, _ = decode_self_speculatively(model, prompts, 12, (), 3)
    _, unexplained = differences(model, prompts, expected, found)
    assert unexplained == 0


def test_broken_weights() -> None:
    model = make().double()
    model.embedding.weight.data[5] = torch.nan
    with pytest.raises(RunError, match="prompt 1 are not finite"):
        generate(model, [[2, 3], [4, 5]], 4, heads=2)


def test_broken_weights_of_a_draft_cost_time_only() -> None:
    model = make().double()
    with torch.no_grad():
        model.head.blocks[1].attention.wv.weight.fill_(torch.nan)
    expected = generate(model, [[2, 3], [4, 5]], 8)
    assert generate(model, [[2, 3], [4, 5]], 8, heads=2).tokens == expected.tokens


def test_models_that_cannot_go_back() -> None:
    model = T5(
        9, PAD, EOS, partial(LMHead), d_model=16, d_ff=32, d_kv=8, num_heads=2, num_layers=2,
        dropout=0.0,
    )  # fmt: skip
    with pytest.raises(UsageError, match="T5 decodes with one head only, set heads=1"):
        decode_self_speculatively(model, [[2]], 4, (), 2)
