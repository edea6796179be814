"""NTL by hand, against the authors' package, and the properties that define it."""

import functools

import pytest
import torch
import torch.nn.functional as F
from choices import token_losses
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from beyond_ce.errors import UsageError
from beyond_ce.losses import NumberLoss, NumberTokenLoss
from beyond_ce.losses.reweighed import ReweighedLoss

ON_NUMBERS = token_losses(NumberLoss)
# A distance of a position's digits to its digit, which is all that the properties below look at.
NTL = [name for name in token_losses(NumberTokenLoss) if name not in token_losses(ReweighedLoss)]


def one_position(lab, probabilities: list[float], label: int):
    """Logits [1, 1, V'] whose softmax over the digits is `probabilities`."""
    logits = torch.zeros(1, 1, lab.padded, dtype=torch.float64)
    logits[0, 0, lab.digits] = torch.tensor(probabilities, dtype=torch.float64).log()
    return logits, torch.tensor([[lab.digits[label]]])


@pytest.mark.parametrize(
    ("name", "expected"),
    # Half the mass on 0 and half on 8, label 4: expected value 4, transport distance 4.
    [("ntl_was", 4.0), ("ntl_was_cdf", 4.0), ("ntl_mse", 0.0), ("ntl_mae", 0.0), ("ntl_huber", 0)],
)
def test_half_on_0_half_on_8_label_4(lab, name, expected):
    inputs = one_position(lab, [0.5, 0, 0, 0, 0, 0, 0, 0, 0.5, 0], label=4)
    assert lab.loss(name)(*inputs).terms["ntl"].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    # Three quarters on 2, a quarter on 6, label 3: expected value 3; label 5: expected value 3.
    [("ntl_was", 2.5), ("ntl_was_cdf", 2.5), ("ntl_mse", 4), ("ntl_mae", 2), ("ntl_huber", 1.5)],
)
def test_by_hand_label_5(lab, name, expected):
    inputs = one_position(lab, [0, 0, 0.75, 0, 0, 0, 0.25, 0, 0, 0], label=5)
    assert lab.loss(name)(*inputs).terms["ntl"].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("cost", "expected"),
    # All the mass on 9, label 1.
    [
        ({"_target_": "beyond_ce.losses.absolute"}, 8.0),
        ({"_target_": "beyond_ce.losses.squared"}, 64.0),
        ({"_target_": "beyond_ce.losses.modular"}, 2.0),
        ({"_target_": "beyond_ce.losses.modular", "modulus": 7}, 1.0),
        # gaps 1..9 are mapped to 1..3: 8 to 1 + 7/8 * 2
        ({"_target_": "beyond_ce.losses.squashed", "factor": 3}, 2.75),
    ],
)
def test_costs(lab, cost, expected):
    inputs = one_position(lab, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1], label=1)
    ntl = lab.loss("ntl_was", cost=cost)(*inputs).terms["ntl"]
    assert ntl.item() == pytest.approx(expected, abs=1e-12)


def test_weight_is_lambda(lab):
    logits, labels = lab.batch()
    output = lab.loss("ntl_was", weight=2.0)(logits, labels)
    expected = output.terms["ce"] + 2.0 * output.terms["ntl"]
    torch.testing.assert_close(output.total, expected)


# -- the authors' package -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ntl_was", "ntl_mse", "ntl_mae", "ntl_huber", "squashed"])
def test_agrees_with_the_authors_package(lab, authors_tokenizer, name):
    ntloss = pytest.importorskip("ntloss")
    reference_class, settings = {
        "ntl_was": (ntloss.NTLoss, {}),
        "squashed": (ntloss.NTLoss, {"squash_factor": 3.0}),
        "ntl_mse": (ntloss.NTLossDotProduct, {"loss_function": F.mse_loss}),
        "ntl_mae": (ntloss.NTLossDotProduct, {"loss_function": F.l1_loss}),
        "ntl_huber": (ntloss.NTLossDotProduct, {"loss_function": F.huber_loss}),
    }[name]
    reference = reference_class(authors_tokenizer, reweigh=False, **settings)
    values = lab.number_values(torch.float32)
    if name == "squashed":
        cost = {"_target_": "beyond_ce.losses.squashed", "factor": 3.0}
        loss = lab.loss("ntl_was", values, cost=cost)
    else:
        loss = lab.loss(name, values)
    logits, labels = lab.batch(rows=(4, 32))
    # ntloss allows no padded columns
    x = logits.detach()[..., :20].float().requires_grad_()
    labels = labels.clamp(max=19)
    output = loss(x, labels)
    ntl = reference(x, labels)
    torch.testing.assert_close(output.terms["ntl"], ntl, rtol=1e-5, atol=0)
    total = F.cross_entropy(x.flatten(0, 1), labels.flatten()) + 0.3 * ntl
    torch.testing.assert_close(output.total, total, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(output.total, x), torch.autograd.grad(total, x), rtol=1e-5, atol=1e-7
    )


# -- properties -----------------------------------------------------------------------------------

logit = st.floats(-8, 8, allow_nan=False)
positions = st.tuples(st.lists(logit, min_size=10, max_size=10), st.integers(0, 9))


@functools.cache
def cached_loss(lab, name):
    return lab.loss(name)


def ntl(lab, name, digit_logits, label):
    logits = torch.zeros(1, 1, lab.padded, dtype=torch.float64)
    logits[0, 0, lab.digits] = torch.tensor(digit_logits, dtype=torch.float64)
    return cached_loss(lab, name)(logits, torch.tensor([[lab.digits[label]]])).terms["ntl"].item()


@settings(max_examples=40, deadline=None)
@given(positions)
def test_was_is_the_wasserstein_distance_to_the_label(lab, position):
    digit_logits, label = position
    p = torch.tensor(digit_logits, dtype=torch.float64).softmax(0).numpy()
    expected = wasserstein_distance(range(10), [label], p)
    assert ntl(lab, "ntl_was", digit_logits, label) == pytest.approx(expected, rel=1e-10)
    assert ntl(lab, "ntl_was_cdf", digit_logits, label) == pytest.approx(expected, rel=1e-10)


@settings(max_examples=40, deadline=None)
@given(positions)
def test_was_is_at_least_the_error_of_the_expected_value(lab, position):
    assert ntl(lab, "ntl_was", *position) >= ntl(lab, "ntl_mae", *position) - 1e-12


@settings(max_examples=40, deadline=None)
@given(positions)
def test_mirroring_digits_and_label_changes_nothing(lab, position):
    digit_logits, label = position
    for name in NTL:
        mirrored = ntl(lab, name, digit_logits[::-1], 9 - label)
        assert mirrored == pytest.approx(ntl(lab, name, digit_logits, label), rel=1e-9, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(positions, st.floats(-50, 50))
def test_only_differences_of_number_logits_count(lab, position, shift):
    digit_logits, label = position
    shifted = [x + shift for x in digit_logits]
    for name in NTL:
        expected = ntl(lab, name, digit_logits, label)
        assert ntl(lab, name, shifted, label) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_zero_only_with_all_mass_on_the_label(lab, predicted, label):
    certain = [0.0 if value == predicted else -1000.0 for value in range(10)]
    for name in NTL:
        value = ntl(lab, name, certain, label)
        assert (value == 0.0) == (predicted == label)


# -- other vocabularies ---------------------------------------------------------------------------


def test_two_tokens_of_one_value(lab):
    """As "1" and "▁1" in a subword vocabulary: mass on either is mass on the value."""
    values = torch.tensor([torch.nan, 0, 1, 2, 1], dtype=torch.float64)
    logits = torch.tensor([[[0.0, 0.2, 0.4, 0.1, 0.9]]], dtype=torch.float64)
    p = logits[0, 0, 1:].softmax(0)
    expected = (p[0] + p[2]).item()
    for name in ("ntl_was", "ntl_was_cdf"):
        for label in (2, 4):
            term = lab.loss(name, values)(logits, torch.tensor([[label]])).terms["ntl"]
            assert term.item() == pytest.approx(expected, rel=1e-12)


def test_cdf_form_is_in_the_unit_of_the_values(lab):
    values = torch.tensor([30, 10, torch.nan, 20], dtype=torch.float64)  # unsorted, spaced by 10
    logits = torch.tensor([[[0.2, 0.4, 0.1, 0.9]]], dtype=torch.float64)
    terms = [
        lab.loss(name, values)(logits, torch.tensor([[0]])).terms["ntl"]
        for name in ("ntl_was", "ntl_was_cdf")
    ]
    torch.testing.assert_close(*terms, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["ntl_was_cdf", "gce_ntl_was"])
def test_cdf_form_needs_even_spacing(lab, name):
    values = torch.tensor([0.0, 1, 2, 10])
    with pytest.raises(UsageError, match="evenly spaced"):
        lab.loss(name, values)
    lab.loss("ntl_was", values)


@pytest.mark.parametrize("name", ON_NUMBERS)
def test_a_tokenizer_without_numbers_is_refused(lab, name):
    with pytest.raises(UsageError, match="this tokenizer has no number tokens"):
        lab.loss(name, torch.full((20,), torch.nan))


def test_cross_entropy_does_not_care_for_numbers(lab):
    logits, labels = lab.batch()
    assert lab.loss("ce", torch.full((20,), torch.nan))(logits, labels).total.isfinite()


@pytest.mark.parametrize("name", ON_NUMBERS)
def test_a_single_number_token(lab, name):
    values = torch.tensor([torch.nan, 7.0, torch.nan])
    output = lab.loss(name, values)(torch.randn(1, 2, 3), torch.tensor([[1, 2]]))
    assert output.total.isfinite()
    assert output.terms.get("ntl", torch.zeros(())).item() == 0.0
