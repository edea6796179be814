"""Where a model puts the probability of the number tokens: near the right number, or anywhere.

Shapes: P positions, K number tokens, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import Evaluation, Evaluator, Subject, subsample
from beyond_ce.evaluation.teacher_forcing import teacher_forced
from beyond_ce.settings import COUNT, NO_LIMIT, takes

if TYPE_CHECKING:
    import datasets

MAX_DISTANCE = 9
"""The largest distance between two digits."""


class NumberMass(Evaluator):
    """Measures how the probability of number tokens depends on their distance from the right one.

    Metrics are means over all positions whose label is a number token, given the prompt and the
    true tokens before it. p is the softmax over the number tokens alone, as in NTL.

    - `mass_at_0` to `mass_at_9`: sum of p over the tokens whose value differs from the label's by
      0 to 9. With digit tokens the ten add up to 1.
    - `expected_distance`: sum_j p_j |v_j - y|, which is NTL-WAS.
    - `mass_outside`: probability of all other tokens together, under the full softmax.

    If no label is a number token, there are no metrics.

    Args:
        batch_size: examples read together; changes speed and memory only.
        max_examples: score only this many examples, evenly spread; None for all.
    """

    columns = ("prompt", "answer")

    @takes(
        "evaluator",
        batch_size=COUNT,
        max_examples=NO_LIMIT,
    )
    def __init__(self, batch_size: int, max_examples: int | None = None) -> None:
        self.batch_size = batch_size
        self.max_examples = max_examples

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Predictions hold, for each example, its number_tokens and their expected_distance.

        Raises:
            UsageError: the tokenizer has no number tokens.
        """
        tokenizer = subject.tokenizer
        examples = subsample(examples, self.max_examples)
        all_values = tokenizer.number_values().to(subject.device)
        ids = all_values.isfinite().nonzero().squeeze(1)
        if len(ids) == 0:
            raise UsageError(
                f"{type(tokenizer).__name__} has no number tokens, so evaluator=number_mass has "
                "nothing to measure: choose tokenizer=digit or another evaluator"
            )
        values = all_values[ids]
        mass, outside = np.zeros(MAX_DISTANCE + 1), 0.0
        count, distance = np.zeros(len(examples)), np.zeros(len(examples))
        for part in teacher_forced(subject, examples, self.batch_size):
            number = all_values[part.labels].isfinite()
            logits, labels, rows = part.logits[number], part.labels[number], part.rows[number]
            p = logits[:, ids].softmax(-1)  # [P, K]
            away = (values - all_values[labels][:, None]).abs()  # [P, K]
            mass += [float(p[away == d].sum()) for d in range(MAX_DISTANCE + 1)]
            on_numbers = logits[:, ids].logsumexp(-1) - logits.logsumexp(-1)
            outside += float((1 - on_numbers.exp()).sum())
            np.add.at(count, rows.cpu().numpy(), 1)
            np.add.at(distance, rows.cpu().numpy(), (p * away).sum(-1).cpu().numpy())
        predictions = examples.select_columns(["prompt", "answer", "task"]).to_pandas()
        predictions["number_tokens"] = count.astype(int)
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of an example without numbers
            predictions["expected_distance"] = distance / count
        total = count.sum()
        metrics = {}
        if total:
            metrics = {f"mass_at_{d}": float(sum_p / total) for d, sum_p in enumerate(mass)}
            metrics["expected_distance"] = float(distance.sum() / total)
            metrics["mass_outside"] = outside / float(total)
        return Evaluation(metrics, predictions)
