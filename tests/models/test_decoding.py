"""Copies of the weights for decoding are kept, and never out of date."""

from __future__ import annotations

import copy
import gc
import weakref
from functools import partial

import pytest
import torch
from choices import choices, classes

from beyond_ce.configuration import build, compose
from beyond_ce.generation import generate
from beyond_ce.models import Decoder
from beyond_ce.models.decoding import decoding_weights
from beyond_ce.models.heads import (
    LMHead,
    MultiTokenHead,
    SharedUnembedding,
    TransformerBlocks,
)

PAD, EOS, VOCAB = 0, 1, 40
PROMPTS = [[5, 6, 7], [8]]


def make() -> Decoder:
    torch.manual_seed(0)
    head = partial(MultiTokenHead, n=2, block=TransformerBlocks, unembedding=SharedUnembedding)
    return Decoder(VOCAB, PAD, EOS, head, dim=384, num_layers=3, num_heads=4, max_length=16).eval()


@pytest.fixture
def model() -> Decoder:
    return make()


def is_fresh(model: Decoder) -> bool:
    """Whether cached decoding tells the next token from the present weights."""
    with torch.no_grad():
        expected = torch.stack([model.logits(torch.tensor([p]))[0, -1, 0] for p in PROMPTS])
        return torch.allclose(model.prefill(PROMPTS, 1)[1], expected, atol=1e-3)


def test_are_kept(model: Decoder) -> None:
    generate(model, PROMPTS, 4)
    weights = decoding_weights(model)
    generate(model, PROMPTS, 4, heads=2)
    assert decoding_weights(model) is weights
    assert is_fresh(model)


def step(model: Decoder) -> None:
    model.logits(torch.tensor([[5, 6, 7]])).square().mean().backward()
    torch.optim.AdamW(model.parameters(), lr=0.1).step()


def load(model: Decoder) -> None:
    other = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    model.load_state_dict(other)


def assign(model: Decoder) -> None:
    other = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    model.load_state_dict(other, assign=True)


def round_off(model: Decoder) -> None:
    model.bfloat16().float()  # may end up at the same address


def train(model: Decoder) -> None:
    """As code that goes around torch's count of changes."""
    model.train()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.eval()


@pytest.mark.parametrize("change", [step, load, assign, round_off, train])
def test_change_with_the_model(model: Decoder, change) -> None:
    assert is_fresh(model)
    weights = decoding_weights(model)
    change(model)
    assert is_fresh(model)
    assert decoding_weights(model) is not weights


def test_weights_without_a_count_of_changes() -> None:
    with torch.inference_mode():
        model = Decoder(
            VOCAB, PAD, EOS, partial(LMHead), dim=384, num_layers=1, num_heads=4, max_length=16
        ).eval()
        assert is_fresh(model)
        for parameter in model.parameters():
            parameter.mul_(1.5)
        assert is_fresh(model)


def test_are_freed_and_not_copied() -> None:
    model = make()
    generate(model, PROMPTS, 2, heads=2)
    weights = weakref.ref(decoding_weights(model))
    assert is_fresh(copy.deepcopy(model).double())
    assert weights() is decoding_weights(model)
    model.train()
    assert weights() is None
    weights = weakref.ref(decoding_weights(model))
    del model
    gc.collect()
    assert weights() is None


@pytest.mark.parametrize("block", classes("head/block"))
@pytest.mark.parametrize("unembedding", classes("head/unembedding"))
def test_drafts_are_what_the_heads_say(block, unembedding) -> None:
    """Of all heads, at the places asked for, in rows of different lengths."""
    torch.manual_seed(0)
    head = partial(MultiTokenHead, n=3, block=block, unembedding=unembedding)
    model = Decoder(
        VOCAB, PAD, EOS, head, dim=16, num_layers=4, num_heads=2, max_length=16, multiple_of=8
    )
    model.double().eval()
    state, _ = model.prefill(PROMPTS, 8, heads=3)
    drafts = [state.look_ahead([2, 0], [0, 0])]
    new = torch.tensor([[9, 10, 11], [12, 13, 14]])
    features = state.read(new)
    drafts.append(state.look_ahead([1, 2], [0, 0]))
    texts = [[*prompt, *tokens] for prompt, tokens in zip(PROMPTS, new.tolist(), strict=True)]
    for row, (text, place) in enumerate(zip(texts, (1, 2), strict=True)):
        expected = model.logits(torch.tensor([text]))[0]
        first = len(PROMPTS[row])
        torch.testing.assert_close(state.logits(features)[row], expected[first:, 0])
        torch.testing.assert_close(drafts[0][row], expected[first - 1, 1:])
        torch.testing.assert_close(drafts[1][row], expected[first + place, 1:])


@pytest.mark.parametrize("head", choices("head", MultiTokenHead))
def test_only_tokens_of_the_draft_vocabulary_are_drafted(head: str) -> None:
    """The logits are those of the whole vocabulary, without the others; the text stays greedy."""

    def model_of(draft_vocabulary: int | None) -> Decoder:
        torch.manual_seed(0)
        override = f"+head.draft_vocabulary={'null' if draft_vocabulary is None else 9}"
        made = build(compose([f"head={head}", "head.n=3", override]).head, "head")
        sizes = {"dim": 16, "num_layers": 4, "num_heads": 2, "max_length": 64, "multiple_of": 8}
        return Decoder(VOCAB, PAD, EOS, made, **sizes).double().eval()

    labels = torch.tensor([[5, 5, 7, 11, 11, 11, 13, -100], [2, 3, 17, 19, 23, 39, 39, -100]])
    model = model_of(9)
    model.head.count(labels)
    ids = [5, 11, 39, 2, 3, 7, 13, 17, 19]  # those seen more than once, then in their order
    found = model.head.draft_ids(VOCAB)
    assert found is not None and found.tolist() == sorted(ids)
    states = [m.prefill(PROMPTS, 8, heads=3)[0] for m in (model, model_of(None))]
    some, everything = (state.look_ahead([2, 0], [9, 9]) for state in states)
    torch.testing.assert_close(some[:, 0], everything[:, 0, found])
    if head != "multi_token_recurrent":  # whose later drafts follow the first
        torch.testing.assert_close(some, everything[..., found])
    assert torch.equal(states[0].drafts([2, 0], [9, 9]), found[some.argmax(-1)])
    greedy, drafted = (generate(model, PROMPTS, 20, heads=k) for k in (1, 3))
    assert greedy.tokens == drafted.tokens
    assert model_of(None).head.draft_ids(VOCAB) is None
    assert model.head.draft_ids(9) is None, "of a smaller vocabulary, all tokens"
