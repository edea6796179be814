from __future__ import annotations

import itertools
import math
from collections import Counter
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import TopPLogitsWarper

from beyond_ce.generation import generate
from beyond_ce.generation.sampling import Sampler, draw, nucleus
from beyond_ce.models import Decoder
from beyond_ce.models.heads import LMHead

PAD, EOS = 0, 1
PARTS = 64  # probabilities are multiples of 1 / 64, so that all sums are exact


def decoder(vocab_size: int) -> Decoder:
    torch.manual_seed(0)
    model = Decoder(
        vocab_size, PAD, EOS, partial(LMHead), dim=16, num_layers=2, num_heads=2, max_length=24,
        multiple_of=8,
    )  # fmt: skip
    torch.nn.init.normal_(model.head.unembedding(), std=1.0)
    return model


def smallest_set(parts: list[int], needed: int) -> set[int]:
    """Of all sets of tokens with enough probability: the smallest, of these the most probable, of
    these the one with the smallest ids."""
    tokens = range(len(parts))
    sets = itertools.chain.from_iterable(
        itertools.combinations(tokens, size + 1) for size in tokens
    )
    enough = [chosen for chosen in sets if sum(parts[i] for i in chosen) >= needed]
    return set(min(enough, key=lambda chosen: (len(chosen), -sum(parts[i] for i in chosen))))


@st.composite
def distributions(draw: st.DrawFn) -> list[int]:
    cuts = sorted(draw(st.lists(st.integers(0, PARTS), max_size=6)))
    return [end - start for start, end in itertools.pairwise([0, *cuts, PARTS])]


@given(distributions(), st.integers(1, PARTS))
def test_the_nucleus_is_the_smallest_set_that_holds_top_p(parts: list[int], needed: int) -> None:
    probabilities = torch.tensor([parts], dtype=torch.float64) / PARTS
    kept = nucleus(probabilities, needed / PARTS)
    inside = smallest_set(parts, needed)
    expected = [part / PARTS if i in inside else 0.0 for i, part in enumerate(parts)]
    assert kept.tolist() == [expected]


@settings(deadline=None)
@given(
    st.integers(0, 10**6), st.floats(0.01, 0.999), st.sampled_from([1, 2, 7, 300]),
    st.sampled_from([0.1, 1.0, 3.0]),
)  # fmt: skip
def test_the_nucleus_equals_that_of_transformers(
    seed: int, top_p: float, vocab_size: int, spread: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(4, vocab_size, generator=generator, dtype=torch.float64)
    ours = nucleus(logits.softmax(-1), top_p)
    theirs = TopPLogitsWarper(top_p)(None, logits).softmax(-1)
    torch.testing.assert_close(ours / ours.sum(-1, keepdim=True), theirs)


def test_draws_invert_the_distribution() -> None:
    weights = torch.tensor([[0.0, 0.5, 0.25, 0.0, 0.25, 0.0]], dtype=torch.float64)
    below_one = math.nextafter(1.0, 0.0)
    for uniform, token in {0.0: 1, 0.49: 1, 0.5: 2, 0.74: 2, 0.75: 4, below_one: 4}.items():
        assert draw(weights, torch.tensor([uniform], dtype=torch.float64)).tolist() == [token]


@given(
    st.lists(st.just(0.0) | st.floats(1e-300, 1.0), min_size=1, max_size=9).filter(any),
    st.floats(0, 1, exclude_max=True),
)
def test_no_number_draws_a_token_without_weight(weights: list[float], uniform: float) -> None:
    row = torch.tensor([weights], dtype=torch.float64)
    for u in (uniform, 0.0, math.nextafter(1.0, 0.0)):
        assert weights[draw(row, torch.tensor([u], dtype=torch.float64)).item()] > 0


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.8)])
def test_frequencies_are_the_probabilities(temperature: float, top_p: float) -> None:
    count = 20_000
    logits = torch.tensor([0.3, 1.0, -2.0, 0.9, -0.5, 0.0])
    expected = nucleus((logits.double() / temperature).softmax(-1)[None], top_p)[0]
    expected /= expected.sum()
    sampler = Sampler(temperature, top_p, seed=3, numbers=range(4), length=count // 4)
    drawn = [sampler(logits.expand(4, -1), [0, 1, 2, 3], t) for t in range(count // 4)]
    found = torch.cat(drawn).bincount(minlength=6)
    possible = expected > 0
    assert found[~possible].sum() == 0
    assert chisquare(found[possible], count * expected[possible]).pvalue > 0.01


@pytest.mark.parametrize("temperature", [1e-320, 1e-5, 1e300])
def test_extreme_temperatures(temperature: float) -> None:
    sampler = Sampler(temperature, 1.0, seed=0, numbers=[0], length=300)
    logits = torch.tensor([[5.0, 7.0, -math.inf, 6.0]])
    drawn = {sampler(logits, [0], t).item() for t in range(300)}
    assert drawn == ({0, 1, 3} if temperature > 1 else {1})


def test_sequences_come_as_often_as_the_model_says() -> None:
    """All continuations of two prompts, their probabilities by full forwards, EOS included."""
    model = decoder(5).double()
    temperature, top_p, count = 1.5, 0.9, 6000
    # As many as make several batches, of prompts of two lengths side by side.
    prompts = [[2, 3, 4], [4]] * count
    found = generate(
        model, prompts, 3, eos_id=EOS, temperature=temperature, top_p=top_p, batch_size=5000
    ).tokens
    for first, prompt in enumerate(prompts[:2]):
        probabilities = {}
        for row in itertools.chain.from_iterable(
            itertools.product(range(5), repeat=length) for length in (1, 2, 3)
        ):
            if EOS in row[:-1] or (len(row) < 3 and row[-1] != EOS):
                continue
            batch = model.make_batch([prompt], [list(row)])
            logits = model.head.logits(model.trunk(batch))[0, -len(row) :]
            steps = nucleus((logits / temperature).softmax(-1), top_p)
            steps = steps / steps.sum(-1, keepdim=True)
            probabilities[row] = steps[range(len(row)), row].prod().item()
        assert sum(probabilities.values()) == pytest.approx(1.0)
        counts = Counter(map(tuple, found[first::2]))
        assert all(probabilities[row] > 0 for row in counts)
        # Rare sequences together, as the test wants five of each at least.
        common = [row for row, p in probabilities.items() if count * p >= 5]
        expected = [count * probabilities[row] for row in common]
        observed = [counts[row] for row in common]
        expected.append(count - sum(expected) + 1e-9)
        observed.append(count - sum(observed))
        assert len(common) > 10
        assert chisquare(observed, expected, sum_check=False).pvalue > 0.01


def test_a_sample_depends_on_nothing_but_seed_place_and_prompt() -> None:
    model = decoder(30)
    generator = torch.Generator().manual_seed(1)
    prompts = [
        torch.randint(2, 30, (length,), generator=generator).tolist()
        for length in (3, 9, 1, 4, 4, 7, 2, 5)
    ]
    sample = partial(generate, model, max_new_tokens=12, eos_id=EOS, temperature=1.3, top_p=0.95)
    together = sample(prompts).tokens
    assert sample(prompts, batch_size=1).tokens == together
    assert sample(prompts, batch_size=3).tokens == together
    assert sample([[5], *prompts[1:]]).tokens[1:] == together[1:]
    assert sample(prompts, seed=1).tokens != together
    assert len({len(tokens) for tokens in together}) > 2, "some should end early"
    shorter = sample(prompts, max_new_tokens=5).tokens
    assert shorter == [tokens[:5] for tokens in together]


def test_repeated_prompts_are_different_samples() -> None:
    tokens = generate(decoder(30), [[5, 6]] * 4, 8, temperature=1.0).tokens
    assert len({tuple(row) for row in tokens}) == 4


def test_cold_samples_and_small_nuclei_are_greedy() -> None:
    model, prompts = decoder(30), [[5, 6], [7], [8, 9, 10]]
    greedy = generate(model, prompts, 8).tokens
    assert generate(model, prompts, 8, temperature=1e-9).tokens == greedy
    assert generate(model, prompts, 8, temperature=5.0, top_p=1e-9).tokens == greedy
