"""What a model predicts at each position of the true answers, given the true tokens before.

Shapes: P positions, V vocabulary (padded embeddings included).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from beyond_ce.evaluation.evaluator import Subject, check_predicts_tokens, positions_at_once
from beyond_ce.losses.base import IGNORED
from beyond_ce.models import evaluating

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Positions:
    """Some positions of the answers, the end tokens included."""

    logits: Tensor
    """float32 [P, V], given the prompt and the answer's tokens before the position."""
    labels: Tensor
    """long [P]."""
    rows: Tensor
    """long [P], the example that each position belongs to."""


@torch.inference_mode()
def teacher_forced(
    subject: Subject, examples: datasets.Dataset, batch_size: int
) -> Iterator[Positions]:
    """Every position of every answer of `examples` (columns prompt, answer), in parts that fit into
    memory.

    Raises:
        UsageError: the model's head does not predict tokens.
    """
    check_predicts_tokens(subject.model)
    tokenizer, device = subject.tokenizer, subject.device
    prompts = tokenizer.encode(list(examples["prompt"]))
    answers = [[*ids, tokenizer.eos_id] for ids in tokenizer.encode(list(examples["answer"]))]
    # Similar lengths share a batch; the longest go first, to run out of memory early.
    order = sorted(
        range(len(prompts)), key=lambda i: (len(prompts[i]), len(answers[i])), reverse=True
    )
    model = subject.model.to(device)
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = model.make_batch([prompts[i] for i in rows], [answers[i] for i in rows])
            batch = batch.to(device)
            known = batch.labels != IGNORED
            hidden, labels = model.trunk(batch)[known], batch.labels[known]
            position_rows = torch.tensor(rows, device=device)[known.nonzero()[:, 0]]
            width = positions_at_once(model)
            for part in range(0, len(labels), width):
                chosen = slice(part, part + width)
                logits = model.head.logits(hidden[None, chosen])[0].float()
                yield Positions(logits, labels[chosen], position_rows[chosen])
