from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from beyond_ce.errors import UsageError
from beyond_ce.evaluation import Subject, evaluator
from beyond_ce.evaluation.teacher_forcing import teacher_forced
from beyond_ce.models import T5
from beyond_ce.models.heads import LMHead

DIGIT, END = 3, 1  # as in conftest.py


def test_every_position_comes_once_and_knows_its_example(tokenizer, uniform, monkeypatch, examples):
    monkeypatch.setattr(evaluator, "_LOGITS_AT_ONCE", 2 * tokenizer.vocab_size)
    uniform.train()
    parts = list(teacher_forced(Subject(uniform, tokenizer, "cpu"), examples("7", "123", ""), 2))
    assert uniform.training
    assert max(len(part.labels) for part in parts) == 2
    found = sorted(
        (int(row), int(label))
        for part in parts
        for row, label in zip(part.rows, part.labels, strict=True)
    )
    digits = [(0, DIGIT + 7), *((1, DIGIT + i) for i in (1, 2, 3))]
    assert found == sorted([*digits, *((row, END) for row in range(3))])


def test_the_model_reads_the_right_tokens_before(tokenizer, uniform, examples):
    uniform.table[DIGIT + 1, DIGIT + 2] = 5.0  # only after a 1 comes a 2
    (part,) = teacher_forced(Subject(uniform, tokenizer, "cpu"), examples("12"), 4)
    assert part.labels.tolist() == [DIGIT + 1, DIGIT + 2, END]
    assert part.logits[:, DIGIT + 2].tolist() == [0, 5, 0]


def test_batches_do_not_change_what_a_transformer_predicts(tokenizer, examples):
    torch.manual_seed(0)
    model = T5(
        **{"vocab_size": tokenizer.vocab_size, "pad_id": 0, "eos_id": END},
        **{"d_model": 8, "d_ff": 16, "d_kv": 4, "num_heads": 2, "num_layers": 1, "dropout": 0.5},
        head=LMHead,
    )
    texts = ["7", "123", "4 56"]
    sums = {}
    for batch_size in (1, 3):
        sums[batch_size] = torch.zeros(3)
        for part in teacher_forced(Subject(model, tokenizer, "cpu"), examples(*texts), batch_size):
            losses = F.cross_entropy(part.logits, part.labels, reduction="none")
            sums[batch_size].index_add_(0, part.rows, losses)
    torch.testing.assert_close(sums[1], sums[3])


def test_a_head_for_something_else_is_refused(tokenizer, uniform, examples):
    uniform.head.target = "value"
    with pytest.raises(UsageError, match="head predicts value, .* choose head=lm"):
        next(teacher_forced(Subject(uniform, tokenizer, "cpu"), examples("1"), 1))
