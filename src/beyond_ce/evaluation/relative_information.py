"""How much the next token and the one after it tell about each other, by a model's own beliefs.

Shapes: B contexts, T tokens of a context, K candidates for the next token, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from beyond_ce.batches.batch import unlabelled
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import (
    Evaluation,
    Evaluator,
    Subject,
    check_context,
    check_predicts_ahead,
    check_predicts_tokens,
    contexts,
)
from beyond_ce.models import evaluating
from beyond_ce.settings import COUNT, takes

if TYPE_CHECKING:
    import datasets


class RelativeInformation(Evaluator):
    """Estimates the mutual information of the next two tokens, X and Y (MTP, section 5.2).

    With q(x) and q(y | x) from head 1, which reads on with x, and q_Y from head 2:

    - `information`: mean over positions of sum_x q(x) D(q(y | x) || q_Y), where text is what the
      model believes it to be. Only the `candidates` most probable x are summed; every other one
      would add between nothing and -log min_y q_Y(y) times its probability;
    - `information_bound`: mean of the most that the others could add;
    - `text_information`: mean of log q(y | x) - log q_Y(y) for the true tokens, an unbiased
      estimate of the paper's I_p||q, which may be negative.

    All in nats.

    Args:
        batch_size: contexts read together; changes speed and memory only.
        context: tokens of a context.
        contexts: how many to score, spread evenly over the documents.
        candidates: K.
    """

    columns = ("text",)

    @takes("evaluator", batch_size=COUNT, context=COUNT, contexts=COUNT, candidates=COUNT)
    def __init__(self, batch_size: int, context: int, contexts: int, candidates: int) -> None:
        self.batch_size = batch_size
        self.context = context
        self.contexts = contexts
        self.candidates = candidates

    @torch.inference_mode()
    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Scores documents (columns text, task).

        Predictions hold, for each context, its task, its end as `before`, the true tokens `x` and
        `y`, and the three values.

        Raises:
            UsageError: the model has one head, or cannot read the documents, or they are too short.
        """
        check_predicts_tokens(subject.model)
        check_context(subject.model, self.context + 1, "evaluator.context + 1")
        check_predicts_ahead(subject.model)
        model, tokenizer = subject.model.to(subject.device), subject.tokenizer
        if model.head.n < 2:
            raise UsageError(
                "evaluator=relative_information compares head 2 with head 1, and the model has "
                "one head: choose head=multi_token"
            )
        documents = tokenizer.encode(list(examples["text"]))
        kept = contexts(documents, self.context, 2, self.contexts)
        if not kept:
            raise UsageError(
                f"evaluator.context={self.context}: no document has two tokens after so many; "
                "lower it"
            )
        rows = [documents[i][end - self.context : end + 2] for i, end in kept]
        parts = []
        with evaluating(model):
            for start in range(0, len(rows), self.batch_size):
                tokens = torch.tensor(rows[start : start + self.batch_size], device=subject.device)
                parts.append(self._values(subject, tokens).cpu().numpy())
        values = np.concatenate(parts)
        tasks = list(examples["task"])
        names = ("information", "information_bound", "text_information")
        table = pd.DataFrame(
            {
                "task": [tasks[i] for i, _ in kept],
                "before": [tokenizer.decode(row[:-2]) for row in rows],
                "x": [tokenizer.decode(row[-2:-1]) for row in rows],
                "y": [tokenizer.decode(row[-1:]) for row in rows],
                **dict(zip(names, values.T, strict=True)),
            }
        )
        return Evaluation({name: float(table[name].mean()) for name in names}, table)

    def _values(self, subject: Subject, tokens: Tensor) -> Tensor:
        """float64 [B, 3]: the three values of contexts with the two true tokens, [B, T + 2]."""
        model = subject.model
        hidden = model.trunk(unlabelled(tokens[:, :-2]))
        log_x = model.head.logits(hidden)[:, -1].double().log_softmax(-1)
        log_y = model.head.logits(hidden, 1)[:, -1].double().log_softmax(-1)
        width = min(self.candidates, model.vocab_size)
        top, candidates = log_x[:, : model.vocab_size].topk(width)  # [B, K]
        # The candidates, and the true token, each after its context.
        following = torch.cat([candidates, tokens[:, -2:-1]], 1)
        contexts = tokens[:, :-2].repeat_interleave(width + 1, 0)
        read_on = torch.cat([contexts, following.reshape(-1, 1)], 1)
        logits = torch.cat(
            [
                model.head.logits(model.trunk(unlabelled(part)))[:, -1]
                for part in read_on.split(self.batch_size)
            ]
        )
        log_y_given_x = logits.double().log_softmax(-1).view(len(tokens), width + 1, -1)
        gain = log_y_given_x - log_y[:, None]  # [B, K + 1, V]
        divergence = (log_y_given_x[:, :-1].exp() * gain[:, :-1]).sum(-1)  # [B, K]
        information = (top.exp() * divergence).sum(1)
        rest = (1 - top.exp().sum(1)).clamp(min=0)
        bound = rest * -log_y.amin(1)
        of_text = gain[:, -1].gather(1, tokens[:, -1:])[:, 0]
        return torch.stack([information, bound, of_text], 1)
