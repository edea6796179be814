"""Gaussian cross-entropy by hand and in its limits."""

import math

import pytest
import torch
import torch.nn.functional as F


def test_by_hand(lab):
    """Values 0, 1, 2 beside one word, label 1, sigma 1: q ~ (e^-1/2, 1, e^-1/2)."""
    values = torch.tensor([0.0, 1.0, 2.0, torch.nan], dtype=torch.float64)
    logits = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]], dtype=torch.float64)
    side = math.exp(-0.5)
    q = torch.tensor([side, 1, side, 0], dtype=torch.float64) / (1 + 2 * side)
    expected = -(q * logits[0, 0].log_softmax(0)).sum()
    gce = lab.loss("gce", values)(logits, torch.tensor([[1]])).total
    torch.testing.assert_close(gce, expected, rtol=1e-12, atol=0)


def test_small_sigma_is_cross_entropy(lab):
    logits, labels = lab.batch()
    gce = lab.loss("gce", sigma=0.05)(logits, labels).total
    ce = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(gce, ce, rtol=1e-12, atol=0)


def test_large_sigma_is_uniform_over_the_numbers(lab):
    logits = torch.randn(1, 1, lab.padded, dtype=torch.float64)
    gce = lab.loss("gce", sigma=1e6)(logits, torch.tensor([[lab.digits[3]]])).total
    expected = -logits[0, 0].log_softmax(0)[lab.digits].mean()
    torch.testing.assert_close(gce, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_both_terms_are_least_at_the_smoothed_label(lab, sigma):
    loss = lab.loss("gce_ntl_was", sigma=sigma)
    logits = torch.full((1, 1, lab.padded), -40.0, dtype=torch.float64)
    gaps = torch.arange(10, dtype=torch.float64) - 7
    logits[0, 0, lab.digits] = -gaps.square() / (2 * sigma**2)
    logits.requires_grad_()
    output = loss(logits, torch.tensor([[lab.digits[7]]]))
    assert output.terms["ntl"].item() == pytest.approx(0.0, abs=1e-12)
    (gradient,) = torch.autograd.grad(output.terms["gce"], logits)
    assert gradient.abs().max() < 1e-12


def test_smoothing_follows_values_not_places(lab):
    """Two tokens of one value get equal mass, and a far value next in the vocabulary gets none."""
    values = torch.tensor([5.0, 100.0, 5.0, torch.nan], dtype=torch.float64)
    smoothed = lab.loss("gce", values).smoothed
    torch.testing.assert_close(smoothed[0], torch.tensor([0.5, 0, 0.5], dtype=torch.float64))
