"""How much of an n-token loss, and of its gradient, is about choice points (MTP, section 5.1).

Shapes: B windows, T positions, n heads, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from beyond_ce.batches.batch import unlabelled
from beyond_ce.data.languages import Structure
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import (
    Evaluation,
    Evaluator,
    Subject,
    check_context,
    check_predicts_ahead,
    check_predicts_tokens,
    spread,
)
from beyond_ce.evaluation.letters import one_token_per_letter
from beyond_ce.models import evaluating
from beyond_ce.settings import COUNT, SHARE, takes

if TYPE_CHECKING:
    import datasets

    from beyond_ce.models.base import LanguageModel

KINDS = ("choice", "free", "settled")


@dataclass(frozen=True)
class Window:
    """A piece of a document: the tokens at `start` and after it, T + n of them."""

    document: int
    start: int
    tokens: list[int]


class ChoicePoints(Evaluator):
    """Divides the loss by what its terms are about; subclasses know the choice points.

    A term is the cross-entropy of one head at one position, given the true tokens before it. It is
    about a *choice* if a choice point lies between what the model sees and the token that it
    predicts, or is that token; of a *free* token, which decides nothing, if that is what it
    predicts; and *settled* otherwise. For each kind:

    - `terms_per_choice` and `terms_per_free`: terms of the kind for each choice point, or free
      token; n (n + 1) / 2 and n in the paper's argument;
    - `loss_per_choice` and `loss_per_free`: their summed cross-entropy in nats;
    - `terms_ratio` and `loss_ratio`: those of a choice point over those of a free token;
    - `loss_share@choice`, `@free`, `@settled`: share of the whole loss;
    - `gradient_share@choice` and so on: norm of this part's gradient with respect to the trunk's
      parameters, as a share of the sum of the three norms.

    What does not occur is left out. Documents are cut into windows, so that each has n tokens more
    than the `context` positions at which it is scored.

    Args:
        batch_size: windows read together; changes speed and memory only.
        context: positions of a window.
        windows: how many to score, spread evenly over the documents.
    """

    @takes("evaluator", batch_size=COUNT, context=COUNT, windows=COUNT)
    def __init__(self, batch_size: int, context: int, windows: int) -> None:
        self.batch_size = batch_size
        self.context = context
        self.windows = windows

    @abstractmethod
    def _tokens(self, subject: Subject, examples: datasets.Dataset) -> list[list[int]]:
        """The tokens of each document."""

    @abstractmethod
    def _structures(
        self, subject: Subject, examples: datasets.Dataset, windows: Sequence[Window]
    ) -> list[Structure]:
        """The choice points and free tokens of each window, counted from its first token."""

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Scores documents. Predictions hold, for each window, its task, and the terms and the loss
        of every kind.

        Raises:
            UsageError: no document is long enough, or the model cannot score them.
        """
        check_predicts_tokens(subject.model)
        check_predicts_ahead(subject.model)
        check_context(subject.model, self.context, "evaluator.context")
        n = subject.model.head.n
        windows = self._windows(self._tokens(subject, examples), n)
        structures = self._structures(subject, examples, windows)
        kinds = np.stack([kinds_of_terms(s, self.context, n) for s in structures])
        losses, gradients = self._losses(subject, windows, kinds)
        terms = np.stack([(kinds == kind).sum((1, 2)) for kind in range(len(KINDS))], 1)
        metrics: dict[str, float] = {}
        places = range(1, self.context + 1)
        for kind, name in enumerate(KINDS):
            if not terms[:, kind].any():
                continue
            if name != "settled":
                listed = [s.choices if name == "choice" else s.free for s in structures]
                count = sum(place in places for own in listed for place in own)
                metrics[f"terms_per_{name}"] = float(terms[:, kind].sum() / count)
                metrics[f"loss_per_{name}"] = float(losses[:, kind].sum() / count)
            metrics[f"loss_share@{name}"] = float(losses[:, kind].sum() / losses.sum())
            metrics[f"gradient_share@{name}"] = gradients[kind] / sum(gradients)
        for name in ("terms", "loss"):
            if f"{name}_per_free" in metrics:
                ratio = metrics[f"{name}_per_choice"] / metrics[f"{name}_per_free"]
                metrics[f"{name}_ratio"] = ratio
        tasks = list(examples["task"])
        table = pd.DataFrame({"task": [tasks[window.document] for window in windows]})
        for kind, name in enumerate(KINDS):
            table[f"terms_{name}"] = terms[:, kind]
            table[f"loss_{name}"] = losses[:, kind]
        return Evaluation(metrics, table)

    def _windows(self, documents: list[list[int]], n: int) -> list[Window]:
        size = self.context + n
        windows = [
            Window(i, start, document[start : start + size])
            for i, document in enumerate(documents)
            for start in range(0, len(document) - size + 1, self.context)
        ]
        if not windows:
            raise UsageError(
                f"no document has the {size} tokens that evaluator.context={self.context} and "
                f"{n} heads need: lower it, or use longer documents"
            )
        return [windows[place] for place in spread(len(windows), self.windows)]

    def _losses(
        self, subject: Subject, windows: Sequence[Window], kinds: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], list[float]]:
        """The summed loss of each window and kind [windows, kinds], and for each kind the norm of
        the trunk's gradient over all windows together."""
        model, device, n = subject.model.to(subject.device), subject.device, kinds.shape[-1]
        weights = _trunk_weights(model)
        gradients = [[torch.zeros_like(weight) for weight in weights] for _ in KINDS]
        sums = []
        with evaluating(model), torch.inference_mode(False), torch.enable_grad():
            for part in self._batches(windows):
                tokens = _tensor(windows[part], device)
                hidden = model.trunk(unlabelled(tokens[:, : self.context]))
                losses = torch.stack(
                    [_loss(model, hidden, tokens[:, i + 1 :], i) for i in range(n)], -1
                )
                own = torch.tensor(kinds[part], device=device)
                parts = [losses.where(own == kind, 0).sum((1, 2)) for kind in range(len(KINDS))]
                for gradient, loss in zip(gradients, parts, strict=True):
                    more = torch.autograd.grad(
                        loss.sum(), weights, retain_graph=True, materialize_grads=True
                    )
                    torch._foreach_add_(gradient, more)
                sums.append(torch.stack(parts, 1).detach().double().cpu())
        norms = [float(torch.stack([g.norm() for g in own]).norm()) for own in gradients]
        return torch.cat(sums).numpy(), norms

    def _batches(self, windows: Sequence[Window]) -> Iterator[slice]:
        for start in range(0, len(windows), self.batch_size):
            yield slice(start, start + self.batch_size)


class MarkedChoicePoints(ChoicePoints):
    """`ChoicePoints` where the documents say them, as `ChoiceLanguage` does."""

    columns = ("text", "structure")
    data_set = "choice_language"

    def _tokens(self, subject: Subject, examples: datasets.Dataset) -> list[list[int]]:
        return one_token_per_letter(subject.tokenizer, list(examples["text"]))

    def _structures(
        self, subject: Subject, examples: datasets.Dataset, windows: Sequence[Window]
    ) -> list[Structure]:
        texts = list(examples["structure"])
        return [
            Structure.of(texts[window.document]).part(window.start, len(window.tokens))
            for window in windows
        ]


class LikelyChoicePoints(ChoicePoints):
    """`ChoicePoints` of any text: the tokens that head 1 is least sure of before it sees them.

    A token may be hard to predict without deciding anything, so this is a proxy. Every other token
    counts as a consequence of the last choice point.

    Args:
        share: of all tokens, those with the highest entropy of head 1's prediction.
        settings: as for `ChoicePoints`.
    """

    columns = ("text",)

    @takes("evaluator", share=SHARE)
    def __init__(self, share: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.share = share

    def _tokens(self, subject: Subject, examples: datasets.Dataset) -> list[list[int]]:
        return subject.tokenizer.encode(list(examples["text"]))

    @torch.inference_mode()
    def _structures(
        self, subject: Subject, examples: datasets.Dataset, windows: Sequence[Window]
    ) -> list[Structure]:
        model, device = subject.model.to(subject.device), subject.device
        # The last tokens that the heads predict have an entropy, too.
        length = self.context + model.head.n - 1
        check_context(model, length, "evaluator.context + heads - 1")
        entropies = []
        with evaluating(model):
            for part in self._batches(windows):
                tokens = _tensor(windows[part], device)
                log_p = model.head.logits(model.trunk(unlabelled(tokens[:, :-1]))).log_softmax(-1)
                entropies.append(-(log_p.exp() * log_p).sum(-1).cpu())
        entropy = torch.cat(entropies).numpy()
        high = entropy >= np.quantile(entropy, 1 - self.share)
        return [Structure((np.flatnonzero(row) + 1).tolist(), []) for row in high]


def kinds_of_terms(structure: Structure, context: int, n: int) -> NDArray[np.int64]:
    """[context, n]: for position t and head i + 1, which predicts token t + 1 + i, the place in
    `KINDS` of the term's kind."""
    choices = np.zeros(context + n, bool)
    choices[structure.choices] = True
    free = np.zeros(context + n, bool)
    free[structure.free] = True
    last_choice = np.maximum.accumulate(np.where(choices, np.arange(context + n), -1))
    position = np.arange(context)[:, None]
    target = position + 1 + np.arange(n)
    kinds = np.where(last_choice[target] > position, KINDS.index("choice"), KINDS.index("settled"))
    kinds[free[target]] = KINDS.index("free")
    return kinds


def _trunk_weights(model: LanguageModel) -> list[nn.Parameter]:
    of_head = {id(weight) for weight in model.head.parameters()}
    return [weight for weight in model.parameters() if id(weight) not in of_head]


def _tensor(windows: Sequence[Window], device: torch.device | str) -> Tensor:
    return torch.tensor([window.tokens for window in windows], device=device)


def _loss(model: LanguageModel, hidden: Tensor, targets: Tensor, offset: int) -> Tensor:
    """[B, T]: the cross-entropy of one head at every position."""
    logits = model.head.logits(hidden, offset).float()
    labels = targets[:, : logits.shape[1]]
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
