"""The information terms of a model of a Markov chain, beside the chain's own.

Shapes: P contexts, S letters, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from beyond_ce.analysis.information import decompose
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
from beyond_ce.evaluation.letters import letter_ids, one_token_per_letter
from beyond_ce.models import evaluating
from beyond_ce.settings import COUNT, takes
from beyond_ce.storage.reading import parse_json

if TYPE_CHECKING:
    import datasets

Array = NDArray[np.float64]


class MarkovInformation(Evaluator):
    """Decomposes what a model knows about the next two letters of a `MarkovChain`.

    X is the next letter, Y the one after it. Their joint distribution is head 1 applied twice: for
    every X, the model reads on with it. Metrics are means over the contexts, in nats:

    - `exact_x`, `exact_y`, `exact_x_given_y`, `exact_y_given_x`, `exact_mutual`: the chain's terms
      (see `beyond_ce.analysis.information`), the same for every model of these contexts;
    - `excess_x` and so on, and `excess_mutual`: how much larger the model's cross-entropies are and
      its relative mutual information is. `excess_x` is the sum of `excess_x_given_y` and
      `excess_mutual`, which need not be positive;
    - `excess_y@head2` and so on: the same if head 2 gives the distribution of Y; not for n = 1.

    Args:
        batch_size: contexts read together; changes speed and memory only.
        context: letters of a context.
        contexts: how many to score, spread evenly over the documents.
    """

    columns = ("text", "structure")
    data_set = "markov_chain"

    @takes("evaluator", batch_size=COUNT, context=COUNT, contexts=COUNT)
    def __init__(self, batch_size: int, context: int, contexts: int) -> None:
        self.batch_size = batch_size
        self.context = context
        self.contexts = contexts

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Scores documents of `MarkovChain` (columns text, task, structure).

        Predictions hold, for each context, its last letter, its task, and all terms.

        Raises:
            UsageError: the documents are of another kind or too short, the tokenizer does not give
                each letter a token of its own, or the model cannot score them.
        """
        check_predicts_tokens(subject.model)
        check_predicts_ahead(subject.model)
        check_context(subject.model, self.context + 1, "evaluator.context + 1")
        transitions = _transitions(examples)
        states = len(transitions)
        ids = letter_ids(subject.tokenizer, states)
        rows, documents = self._contexts(subject, examples)
        last = np.array([ids.index(row[-1]) for row in rows])
        p_x = transitions[last]
        p = np.zeros((len(rows), states + 1, states + 1))  # the last place is all other tokens
        p[:, :-1, :-1] = p_x[:, :, None] * transitions
        q, q_y = self._model(subject, rows, ids)
        exact = decompose(p)
        table = pd.DataFrame({"task": documents, "letter": last})
        metrics = {}
        for name, values in vars(exact).items():
            table[f"exact_{name}"] = values
            metrics[f"exact_{name}"] = float(values.mean())
        kinds = {"": decompose(p, q)}
        if q_y is not None:
            kinds["@head2"] = decompose(p, q, q_y=q_y)
        for suffix, terms in kinds.items():
            for name in vars(exact):
                if suffix and name not in _WITH_Y:
                    continue
                excess = getattr(terms, name) - getattr(exact, name)
                table[f"excess_{name}{suffix}"] = excess
                metrics[f"excess_{name}{suffix}"] = float(excess.mean())
        return Evaluation(metrics, table)

    def _contexts(
        self, subject: Subject, examples: datasets.Dataset
    ) -> tuple[list[list[int]], list[str]]:
        """The tokens of each context, and the task of its document."""
        documents = one_token_per_letter(subject.tokenizer, list(examples["text"]))
        kept = contexts(documents, self.context, 1, self.contexts)
        if not kept:
            raise UsageError(
                f"evaluator.context={self.context}: no document is longer; lower it, or raise "
                "dataset.length"
            )
        tasks = list(examples["task"])
        return (
            [documents[i][end - self.context : end] for i, end in kept],
            [tasks[i] for i, _ in kept],
        )

    @torch.inference_mode()
    def _model(
        self, subject: Subject, rows: list[list[int]], ids: list[int]
    ) -> tuple[Array, Array | None]:
        """The model's joint distribution [P, S + 1, S + 1], and head 2's [P, S + 1] if it has one;
        the last place is all other tokens together."""
        model, device = subject.model.to(subject.device), subject.device
        letters = torch.tensor(ids, device=device)
        joint, second = [], []
        with evaluating(model):
            for start in range(0, len(rows), self.batch_size):
                tokens = torch.tensor(rows[start : start + self.batch_size], device=device)
                hidden = model.trunk(unlabelled(tokens))
                x = _of_letters(model.head.logits(hidden)[:, -1], letters)
                if model.head.n > 1:
                    second.append(_of_letters(model.head.logits(hidden, 1)[:, -1], letters))
                # Every context with every letter after it.
                further = torch.cat(
                    [
                        tokens.repeat_interleave(len(ids), 0),
                        letters.repeat(len(tokens))[:, None],
                    ],
                    1,
                )
                logits = model.head.logits(model.trunk(unlabelled(further)))[:, -1]
                y_given_x = _of_letters(logits, letters).view(len(tokens), len(ids), -1)
                other = torch.zeros_like(y_given_x[:, :1])
                other[..., -1] = 1  # what comes after another token does not matter
                joint.append(x[..., None] * torch.cat([y_given_x, other], 1))
        q_y = torch.cat(second).cpu().numpy() if second else None
        return torch.cat(joint).cpu().numpy(), q_y


_WITH_Y = ("y", "x_given_y", "mutual")


def _transitions(examples: datasets.Dataset) -> Array:
    """[S, S], the same for all documents."""
    structures = set(examples["structure"])
    values = [parse_json(text) for text in structures]
    if len(values) != 1 or not isinstance(values[0], list):
        raise UsageError(
            "evaluator=markov_information needs documents of one Markov chain: choose "
            "dataset=markov_chain"
        )
    return np.array(values[0])


def _of_letters(logits: Tensor, letters: Tensor) -> Tensor:
    """float64 [..., S + 1]: the probabilities of the letters, and of all other tokens together."""
    p = logits.double().softmax(-1)[..., letters]
    return torch.cat([p, (1 - p.sum(-1, keepdim=True)).clamp(min=0)], -1)
