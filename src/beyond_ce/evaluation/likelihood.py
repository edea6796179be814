"""Log-likelihoods of continuations: each shared beginning is read once, and batches are by length.

Three things are read one after the other, each once for all that have it in common: what many
contexts begin with (the examples of a few-shot prompt), the rest of a context (the question), and
the continuations (the choices). The model computes logits only where a token is scored.

Shapes: C contexts or N continuations in a batch, T tokens, P scored positions, D hidden size.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import (
    check_predicts_ahead,
    check_predicts_tokens,
    shared_start,
)
from beyond_ce.evaluation.held_out import score_features
from beyond_ce.losses.base import IGNORED
from beyond_ce.models import evaluating
from beyond_ce.models.base import CausalModel

if TYPE_CHECKING:
    from beyond_ce.models.base import LanguageModel
    from beyond_ce.models.shared_prefix import SharedPrefix

Tokens = tuple[int, ...]

_WORTH_SHARING = 32  # tokens that contexts must have in common to be read together
_FAMILY = 4  # contexts that must have them in common


@dataclass(frozen=True)
class Likelihood:
    """Of a continuation after its context.

    Attributes:
        nats: log of its probability.
        greedy: whether every token of it is the most probable one.
    """

    nats: float
    greedy: bool


@dataclass(frozen=True)
class _Family:
    """Contexts that begin alike.

    Attributes:
        shared: number of tokens that all of them begin with and that are read once.
        contexts: the longest first, in order to run out of memory early.
    """

    shared: int
    contexts: list[Tokens]


class _Scores:
    """Sums over the tokens of each continuation."""

    def __init__(self, count: int) -> None:
        self.nats = np.zeros(count)
        self.greedy = np.ones(count, dtype=bool)

    def add(
        self,
        model: LanguageModel,
        features: Tensor,
        rows: list[int],
        labels: list[int],
        offset: int,
    ) -> None:
        """Adds P tokens, with features [P, D] of the places that predict them, to their rows."""
        wanted = torch.tensor(labels, device=features.device)
        bits, right = score_features(model, features, wanted, offset)
        np.add.at(self.nats, rows, -math.log(2) * bits.cpu().numpy())
        np.logical_and.at(self.greedy, rows, right.cpu().numpy())


@torch.inference_mode()
def likelihoods(
    model: LanguageModel,
    device: torch.device | str,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    batch_size: int,
    head: int = 1,
) -> list[Likelihood]:
    """The log-likelihood of each continuation after its context, in the order of the pairs.

    A context too long for the model loses tokens at its beginning, as in the harness. Neither the
    order nor `batch_size` changes a result, up to rounding.

    NOTE: the harness's own model stops at a continuation that alone is too long. Here it is read in
    parts, each after as many of the tokens before it as fit.

    Args:
        model: is moved to the device.
        pairs: tokens of context and continuation, neither empty; an encoder-decoder model reads the
            first in its encoder.
        batch_size: continuations scored together.
        head: the head that predicts them, 1 for that of the next token. Head k predicts each token
            from those that stand at least k before it.

    Raises:
        UsageError: the model has no such head or predicts no tokens, or a pair does not fit it.
    """
    check_head(model, head)
    parts = [_parts(model, context, answer, head) for context, answer in pairs]
    fitting = [part for of_pair in parts for part in of_pair]
    # Equal pairs, as of tasks that share questions, are scored once.
    places = {pair: i for i, pair in enumerate(dict.fromkeys(fitting))}
    scores = _Scores(len(places))
    model = model.to(device)
    with evaluating(model):
        prefix = model.shared_prefix(head - 1) if isinstance(model, CausalModel) else None
        if prefix is None:
            _score_apart(model, device, places, batch_size, head - 1, scores)
        else:
            _score_together(model, prefix, places, batch_size, head, scores)
    rows = [[places[part] for part in of_pair] for of_pair in parts]
    return [
        Likelihood(float(scores.nats[row].sum()), bool(scores.greedy[row].all())) for row in rows
    ]


def check_head(model: LanguageModel, head: int) -> None:
    """Raises UsageError if the model has no such head, or none that predicts tokens."""
    check_predicts_tokens(model)
    if not 1 <= head <= model.head.n:
        raise UsageError(
            f"evaluator.head={head}: the model has {model.head.n} head(s), choose one of them"
        )
    if head > 1:
        check_predicts_ahead(model)
    if head > 1 and not isinstance(model, CausalModel):
        raise UsageError(
            f"evaluator.head={head}: in an encoder-decoder model the first tokens of an answer "
            "have no further head, set evaluator.head=1"
        )


def _parts(
    model: LanguageModel, context: Sequence[int], answer: Sequence[int], head: int
) -> list[tuple[Tokens, Tokens]]:
    """The pair, its context cut off on the left so that the model can read both; or several pairs,
    if the continuation alone is too long."""
    whole, start = (*context, *answer), len(context)
    if start < head:
        raise UsageError(
            f"evaluator.head={head} needs {head} tokens in front of the first that it predicts, "
            f"and a context has {start}: choose a lower head"
        )
    if model.max_length is None or not isinstance(model, CausalModel):
        return [(tuple(context), tuple(answer))]
    most = model.max_length + 1  # the last token is never read
    if most <= head:
        raise UsageError(
            f"evaluator.head={head} needs more than the model's context of {model.max_length} "
            "tokens: choose a lower head"
        )
    size = len(answer) if len(answer) <= most - head else max(1, (most - head) // 2)
    parts = []
    for begin in range(start, len(whole), size):
        end = min(begin + size, len(whole))
        parts.append((whole[max(0, end - most) : begin], whole[begin:end]))
    return parts


def _score_apart(
    model: LanguageModel,
    device: torch.device | str,
    places: dict[tuple[Tokens, Tokens], int],
    batch_size: int,
    offset: int,
    scores: _Scores,
) -> None:
    """Reads every pair on its own, as any model can."""
    order = sorted(places, key=lambda pair: (len(pair[0]) + len(pair[1]), pair), reverse=True)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        batch = model.make_batch([list(c) for c, _ in part], [list(a) for _, a in part])
        rows, positions = (batch.labels != IGNORED).nonzero(as_tuple=True)
        labels = batch.labels[rows, positions].tolist()
        features = model.head.features(model.trunk(batch.to(device)), offset)
        found = features[rows.to(device), positions.to(device) - offset]
        scores.add(model, found, [places[part[row]] for row in rows.tolist()], labels, offset)


def _score_together(
    model: LanguageModel,
    prefix: SharedPrefix,
    places: dict[tuple[Tokens, Tokens], int],
    batch_size: int,
    head: int,
    scores: _Scores,
) -> None:
    """Reads each context once for all of its continuations."""
    answers: dict[Tokens, list[Tokens]] = defaultdict(list)
    for context, answer in sorted(places):
        answers[context].append(answer)
    for family in _families(list(answers), head):
        start = prefix.repeat([0])
        if family.shared:
            start.read([list(family.contexts[0][: family.shared])])
        for contexts in _batches(family.contexts, answers, batch_size):
            read = start.repeat([0] * len(contexts))
            rest = [list(context[family.shared :]) for context in contexts]
            features = read.read(rest)
            work = [(row, answer) for row, c in enumerate(contexts) for answer in answers[c]]
            numbers = [places[contexts[row], answer] for row, answer in work]
            # The first tokens of every continuation are predicted from its context alone.
            found = [
                (row, len(rest[row]) - head + i, number, answer[i])
                for (row, answer), number in zip(work, numbers, strict=True)
                for i in range(min(head, len(answer)))
            ]
            _add(scores, model, features, found, head - 1)
            longer = [i for i, (_, answer) in enumerate(work) if len(answer) > head]
            # By length, so that little is padded.
            longer.sort(key=lambda i: len(work[i][1]), reverse=True)
            for begin in range(0, len(longer), batch_size):
                chosen = longer[begin : begin + batch_size]
                after = read.repeat([work[i][0] for i in chosen])
                features = after.read([list(work[i][1][:-head]) for i in chosen])
                found = [
                    (row, t, numbers[i], work[i][1][head + t])
                    for row, i in enumerate(chosen)
                    for t in range(len(work[i][1]) - head)
                ]
                _add(scores, model, features, found, head - 1)


def _add(
    scores: _Scores,
    model: LanguageModel,
    features: Tensor,
    found: list[tuple[int, int, int, int]],
    offset: int,
) -> None:
    """Adds tokens given by row and position in features [N, T, D], continuation, and label."""
    rows, positions, numbers, labels = (list(column) for column in zip(*found, strict=True))
    scores.add(model, features[rows, positions], numbers, labels, offset)


def _families(contexts: list[Tokens], head: int) -> list[_Family]:
    """The contexts by what they begin with; those that share too little are one family.

    Args:
        contexts: different ones, sorted, so that those that begin alike stand together.
        head: so many of a context's last tokens are not among those shared, as they predict.
    """
    families: list[_Family] = []
    alone: list[Tokens] = []
    group: list[Tokens] = []
    shared = 0

    def close() -> None:
        if len(group) >= _FAMILY:
            families.append(_Family(shared, _longest_first(group)))
        else:
            alone.extend(group)

    for context in contexts:
        own = len(context) - head
        joined = min(shared, shared_start(group[-1], context), own) if group else 0
        if joined >= _WORTH_SHARING and (len(group) == 1 or 2 * joined >= shared):
            group.append(context)
            shared = joined
        else:
            close()
            group, shared = [context], own
    close()
    if alone:
        families.append(_Family(0, _longest_first(alone)))
    return families


def _longest_first(contexts: list[Tokens]) -> list[Tokens]:
    return sorted(contexts, key=lambda context: (len(context), context), reverse=True)


def _batches(
    contexts: list[Tokens], answers: dict[Tokens, list[Tokens]], most: int
) -> Iterator[list[Tokens]]:
    """Contexts with at most so many continuations together; one that has more is alone."""
    batch: list[Tokens] = []
    count = 0
    for context in contexts:
        if batch and count + len(answers[context]) > most:
            yield batch
            batch, count = [], 0
        batch.append(context)
        count += len(answers[context])
    if batch:
        yield batch
