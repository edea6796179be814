from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from beyond_ce.errors import UsageError
from beyond_ce.evaluation import NumberMass, Subject
from beyond_ce.losses import WassersteinLoss

DIGIT, END, START = 3, 1, 0  # as in conftest.py


def test_mass_by_hand(tokenizer, uniform, examples):
    """One label, 3: half the digits' probability on 3, a quarter on 5, a quarter on 9."""
    uniform.table[START, DIGIT:] = -math.inf
    uniform.table[START, DIGIT + 3] = math.log(2)
    uniform.table[START, [DIGIT + 5, DIGIT + 9]] = 0.0
    found = NumberMass(batch_size=4)(Subject(uniform, tokenizer, "cpu"), examples("3"))
    masses = [found.metrics[f"mass_at_{step}"] for step in range(10)]
    assert masses == pytest.approx([0.5, 0, 0.25, 0, 0, 0, 0.25, 0, 0, 0])
    assert found.metrics["expected_distance"] == pytest.approx(0.25 * 2 + 0.25 * 6)
    # Weight 4 is on digits, 3 on the start, the end and the space.
    assert found.metrics["mass_outside"] == pytest.approx(3 / 7)
    assert list(found.predictions["number_tokens"]) == [1]
    assert list(found.predictions["expected_distance"]) == pytest.approx([2])


def test_every_number_position_counts_once(tokenizer, uniform, examples):
    """Uniform digits: the mass at a distance is how many digits are that far, by ten."""
    found = NumberMass(batch_size=1)(Subject(uniform, tokenizer, "cpu"), examples("09", " ", "5"))
    metrics = found.metrics
    assert metrics["mass_at_0"] == pytest.approx(0.1)
    assert metrics["mass_at_1"] == pytest.approx((1 + 1 + 2) / 30)
    assert metrics["mass_at_9"] == pytest.approx((1 + 1 + 0) / 30)
    assert sum(metrics[f"mass_at_{step}"] for step in range(10)) == pytest.approx(1)
    assert metrics["expected_distance"] == pytest.approx((4.5 + 4.5 + 2.5) / 3)
    assert list(found.predictions["number_tokens"]) == [2, 0, 1]
    np.testing.assert_allclose(found.predictions["expected_distance"], [4.5, np.nan, 2.5])


def test_the_expected_distance_is_ntl_was(tokenizer, uniform, examples):
    uniform.table = torch.randn(uniform.table.shape, generator=torch.Generator().manual_seed(0))
    found = NumberMass(batch_size=3)(Subject(uniform, tokenizer, "cpu"), examples("1 42", "9"))
    loss = WassersteinLoss(tokenizer.number_values())
    batch = uniform.make_batch(
        [[END], [END]], [[*ids, END] for ids in tokenizer.encode(["1 42", "9"])]
    )
    expected = loss(uniform.trunk(batch), batch.labels).terms["ntl"]
    assert found.metrics["expected_distance"] == pytest.approx(float(expected), rel=1e-5)


def test_no_number_labels_no_metrics_and_no_number_tokens_an_error(
    tokenizer, uniform, monkeypatch, examples
):
    assert NumberMass(batch_size=1)(Subject(uniform, tokenizer, "cpu"), examples(" ")).metrics == {}
    no_numbers = torch.full((tokenizer.vocab_size,), math.nan)
    monkeypatch.setattr(tokenizer, "number_values", lambda: no_numbers)
    with pytest.raises(UsageError, match="Characters has no number tokens"):
        NumberMass(batch_size=1)(Subject(uniform, tokenizer, "cpu"), examples("1"))
    with pytest.raises(UsageError, match="evaluator.max_examples=0"):
        NumberMass(batch_size=1, max_examples=0)
