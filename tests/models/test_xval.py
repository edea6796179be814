from __future__ import annotations

from functools import partial
from math import log, nan
from typing import Any

import pytest
import torch

from beyond_ce.batches.batch import Batch, Numbers
from beyond_ce.errors import UsageError
from beyond_ce.losses import XValLoss
from beyond_ce.models import XVal
from beyond_ce.models.heads import XValHead
from beyond_ce.training.objective import Objective

PAD, EOS, NUM, VOCAB = 0, 1, 9, 10


def make(**changes: Any) -> XVal:
    torch.manual_seed(0)
    sizes = {
        "dim": 16, "num_layers": 2, "num_heads": 2, "ff_dim": 32, "max_length": 12,
        "answer_slots": 3, "dropout": 0.0,
    }  # fmt: skip
    return XVal(VOCAB, PAD, EOS, partial(XValHead), **(sizes | changes))


def sums(model: XVal) -> Batch:
    """3 + NUM(4) = NUM(7), and a longer question."""
    prompts = [[3, NUM], [4, NUM, 5, NUM]]
    numbers = Numbers([7.0, -1.0], [[nan, 4.0], [nan, 0.0, nan, -1.0]], [[7.0, nan], [-1.0, nan]])
    return model.make_batch(prompts, [[NUM, EOS], [NUM, EOS]], numbers)


def test_the_batch_by_hand() -> None:
    batch = sums(make())
    masks = [VOCAB, VOCAB + 1, VOCAB + 2]
    assert batch.input_ids.tolist() == [[3, NUM, *masks, PAD, PAD], [4, NUM, 5, NUM, *masks]]
    assert batch.attention_mask.tolist() == [[True] * 5 + [False] * 2, [True] * 7]
    assert batch.input_numbers is not None
    factors = [[1, log(5), 1, 1, 1, 1, 1], [1, 0, 1, -log(2), 1, 1, 1]]
    torch.testing.assert_close(batch.input_numbers, torch.tensor(factors))
    assert batch.labels.shape == (2, 3, 2)
    ids, values = batch.labels.unbind(-1)
    assert ids[:, :2].tolist() == [[NUM, EOS]] * 2 and ids[:, 2].isnan().all()
    assert values[:, 0].tolist() == pytest.approx([log(8), -log(2)])
    assert values[:, 1:].isnan().all()


def test_neither_the_answer_nor_its_length_is_seen() -> None:
    model = make()
    numbers = Numbers([nan], [[nan, 4.0]], [[nan] * 3])
    inputs = model.make_batch([[3, NUM]], [[5, 6, EOS]], numbers)
    blank = model.make_batch([[3, NUM]], [[]], Numbers([nan], [[nan, 4.0]], [[]]))
    assert torch.equal(inputs.input_ids, blank.input_ids)
    assert torch.equal(model.trunk(inputs), model.trunk(blank))
    assert blank.labels.shape == (1, 3, 2) and blank.labels.isnan().all()


def test_a_number_scales_its_embedding_and_padding_is_not_seen() -> None:
    model = make()
    batch = sums(model)
    states = model.trunk(batch)
    assert states.shape == (2, 3, 16)
    alone = model.make_batch([[3, NUM]], [[]], Numbers([nan], [[nan, 4.0]], [[]]))
    torch.testing.assert_close(model.trunk(alone)[0], states[0])
    other = model.make_batch([[3, NUM]], [[]], Numbers([nan], [[nan, 5.0]], [[]]))
    assert not torch.allclose(model.trunk(other)[0], states[0])


def test_every_parameter_is_trained() -> None:
    model = make()
    total, terms = Objective(model, XValLoss(torch.full((VOCAB,), nan)))(sums(model))
    total.backward()
    assert set(terms) == {"ce", "mse"}
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_it_learns_a_batch_by_heart() -> None:
    model = make()
    objective = Objective(model, XValLoss(torch.full((VOCAB,), nan)))
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    for _ in range(80):
        total, _ = objective(sums(model))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert total.item() < 1e-2


def test_what_does_not_fit_is_named() -> None:
    long = Numbers([2.0], [[nan]], [[nan, nan, 2.0, nan]])
    with pytest.raises(UsageError, match=r"4 tokens.*last number is 2.*model.answer_slots=3"):
        make().make_batch([[3]], [[3, 4, NUM, EOS]], long)
    with pytest.raises(UsageError, match=r"10 tokens and 3 answer slots.*12.*model.max_length"):
        make().make_batch([[3] * 10], [[]], Numbers([nan], [[nan] * 10], [[]]))
    with pytest.raises(UsageError, match=r"model.dim=15"):
        make(dim=15)
    with pytest.raises(UsageError, match=r"model.answer_slots=0"):
        make(answer_slots=0)
