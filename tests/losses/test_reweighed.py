"""Reweighed NTL by hand, against the authors' package, and what sets it apart from plain NTL."""

import pytest
import torch
import torch.nn.functional as F
from choices import token_losses
from hypothesis import given, settings
from hypothesis import strategies as st

from beyond_ce.losses.reweighed import ReweighedLoss

PLAIN = {name: name.removesuffix("_reweigh") for name in token_losses(ReweighedLoss)}
every_name = pytest.mark.parametrize("name", PLAIN)


def one_position(lab, mass: float, digit: int, label: int):
    """Logits [1, 1, V'] with `mass` on a digit and the rest on a word; log of no mass is -50."""
    logits = torch.full((1, 1, lab.padded), -50.0, dtype=torch.float64)
    logits[0, 0, lab.digits[digit]] = torch.tensor(mass, dtype=torch.float64).log().clamp(-50)
    logits[0, 0, 0] = torch.tensor(1 - mass, dtype=torch.float64).log().clamp(-50)
    return logits, torch.tensor([[lab.digits[label]]])


@pytest.mark.parametrize(
    ("mass", "digit", "label", "was", "mse"),
    [
        # All on the label: nothing. All on the farthest digit: the distance itself.
        (1.0, 4, 4, 0.0, 0.0),
        (1.0, 9, 0, 9.0, 81.0),
        # A quarter on 6, the rest on a word, label 4: 1/4 x 2 + 3/4 x 1.01 x 9, and with squares.
        (0.25, 6, 4, 0.5 + 6.8175, 1.0 + 61.3575),
        # Half on the label itself: 1/2 x 1.01 x 9.
        (0.5, 4, 4, 4.545, 40.905),
    ],
)
def test_by_hand(lab, mass, digit, label, was, mse):
    inputs = one_position(lab, mass, digit, label)
    for name, expected in (("ntl_was_reweigh", was), ("ntl_mse_reweigh", mse)):
        ntl = lab.loss(name)(*inputs).terms["ntl"].item()
        assert ntl == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_worst_of_other_distances(lab):
    """All mass on a word: 1.01 times the farthest pair, on a circle of ten digits 5."""
    inputs = one_position(lab, 0.0, 0, 0)
    modular = {"_target_": "beyond_ce.losses.modular"}
    for name, key in (("ntl_was_reweigh", "cost"), ("ntl_mse_reweigh", "distance")):
        ntl = lab.loss(name, **{key: modular})(*inputs).terms["ntl"].item()
        assert ntl == pytest.approx(1.01 * 5, rel=1e-12)


@pytest.mark.parametrize("entry", ["logits", "hidden"])
@pytest.mark.parametrize("name", ["was", "squashed", "mse", "mae", "huber"])
def test_agrees_with_the_authors_package(lab, authors_tokenizer, name, entry):
    ntloss = pytest.importorskip("ntloss")
    values = lab.number_values(torch.float32)
    if name in ("was", "squashed"):
        factor = 3.0 if name == "squashed" else None
        reference = ntloss.NTLoss(authors_tokenizer, squash_factor=factor)
        cost = {"_target_": "beyond_ce.losses.squashed", "factor": factor} if factor else {}
        loss = lab.loss("ntl_was_reweigh", values, cost=cost)
    else:
        function, ours = {
            "mse": (F.mse_loss, "squared"),
            "mae": (F.l1_loss, "absolute"),
            "huber": (F.huber_loss, "huber"),
        }[name]
        reference = ntloss.NTLossDotProduct(authors_tokenizer, loss_function=function)
        distance = {"_target_": f"beyond_ce.losses.{ours}"}
        loss = lab.loss("ntl_mse_reweigh", values, distance=distance)
    _, labels = lab.batch(rows=(4, 32))
    labels = labels.clamp(max=19)
    # ntloss allows no padded columns
    hidden, unembedding = (torch.randn(*n, requires_grad=True) for n in ((4, 32, 6), (20, 6)))
    inputs = (hidden, unembedding)
    x = hidden @ unembedding.T
    output = loss.from_hidden(*inputs, labels) if entry == "hidden" else loss(x, labels)
    ntl = reference(x, labels)
    torch.testing.assert_close(output.terms["ntl"], ntl, rtol=1e-5, atol=0)
    total = F.cross_entropy(x.flatten(0, 1), labels.flatten()) + 0.3 * ntl
    torch.testing.assert_close(output.total, total, rtol=1e-5, atol=0)
    expected = torch.autograd.grad(total, inputs, retain_graph=True)
    torch.testing.assert_close(
        torch.autograd.grad(output.total, inputs), expected, rtol=1e-5, atol=2e-6
    )


@every_name
def test_with_all_mass_on_numbers_it_is_plain_ntl(lab, name):
    logits, labels = lab.batch()
    labels = torch.tensor(lab.digits)[labels.clamp(min=0) % 10]
    words = torch.ones(lab.padded, dtype=torch.bool)
    words[lab.digits] = False
    logits = logits.detach().masked_fill(words, -torch.inf)
    plain, reweighed = (lab.loss(n)(logits, labels).total for n in (PLAIN[name], name))
    torch.testing.assert_close(reweighed, plain, rtol=1e-12, atol=0)


@every_name
@settings(max_examples=40, deadline=None)
@given(
    mass=st.floats(0.01, 0.99), less=st.floats(0.1, 0.9), digits=st.tuples(*[st.integers(0, 9)] * 2)
)
def test_mass_on_words_always_costs_more(lab, name, mass, less, digits):
    """Whatever the digit: a word is worse than the worst of them. Plain NTL sees no difference."""
    more, fewer = (one_position(lab, m, *digits) for m in (mass, mass * less))
    loss, plain = lab.loss(name), lab.loss(PLAIN[name])
    assert loss(*fewer).terms["ntl"] > loss(*more).terms["ntl"]
    torch.testing.assert_close(plain(*fewer).terms["ntl"], plain(*more).terms["ntl"])


@every_name
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_positions_does_not_count(lab, name, seed):
    logits, labels = lab.batch(seed)
    order = torch.randperm(labels.numel(), generator=torch.Generator().manual_seed(seed))
    loss = lab.loss(name)
    permuted = loss(logits.flatten(0, 1)[order][None], labels.flatten()[order][None]).total
    torch.testing.assert_close(permuted, loss(logits, labels).total, rtol=1e-12, atol=0)


def test_only_reweighed_losses_compute_logits_again(lab, monkeypatch):
    """What the existing losses cost must not change."""
    module = "beyond_ce.losses.sparse_cross_entropy._add_normaliser"
    calls = []
    monkeypatch.setattr(module, lambda *_: calls.append(1))
    _, labels = lab.batch()
    hidden = torch.randn(3, 8, 6, requires_grad=True)
    for name in token_losses():
        before = len(calls)
        lab.loss(name).from_hidden(hidden, torch.randn(lab.padded, 6), labels).total.backward()
        assert (len(calls) > before) == (name in PLAIN)
