"""How well every head of a model predicts the tokens of documents that it has not seen.

Shapes: B windows, T positions, n heads, P positions with a label, D hidden size, V vocabulary
(padded embeddings included).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from beyond_ce.batches.batch import Batch, pad, token_mask
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import (
    Evaluation,
    Evaluator,
    Subject,
    check_context,
    check_predicts_tokens,
    positions_at_once,
    subsample,
)
from beyond_ce.losses.base import IGNORED
from beyond_ce.models import evaluating
from beyond_ce.settings import COUNT, NO_LIMIT, takes

if TYPE_CHECKING:
    import datasets

    from beyond_ce.models.base import LanguageModel
    from beyond_ce.models.heads import Head
    from beyond_ce.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class Window:
    """A piece of a document that a model reads at once.

    Attributes:
        document: index of its document.
        inputs: at most `context` tokens.
        future: the tokens after the first input: as many as the inputs, and up to n - 1 more if the
            document has them.
        bytes: size in UTF-8 of the text that head 1 is scored on.
    """

    document: int
    inputs: list[int]
    future: list[int]
    bytes: int


@dataclass(frozen=True)
class WindowScores:
    """How well the heads predict the tokens of a window.

    Attributes:
        known: bool [T, n], whether there is a token to predict.
        bits: float64 [T, n], minus the token's log2 probability.
        right: bool [T, n], whether the token is the most probable one.
    """

    known: np.ndarray
    bits: np.ndarray
    right: np.ndarray


class HeldOut(Evaluator):
    """Scores how well every head predicts documents, given the true tokens before.

    Each document is read on its own, in consecutive windows of `context` tokens. As for the rows of
    training, the model does not see the windows before. Every token of a document but the first is
    scored once, its end token included. Head i is scored wherever the document has a token i places
    ahead, even beyond the window; if it also reads the tokens in between (see `Head.reads_tokens`),
    just after the window at most. All metrics are over the tokens of all documents together.

    - `bits_per_byte`, of head 1: bits of the scored tokens / bytes of their text, which is
      comparable between tokenizers. An end token has bits but no bytes. If the edge of a window
      cuts a character, the bytes are off by two at most. If the tokens of a document do not give
      its text back, its windows share the bytes of the text as they do those of the tokens.
    - `bits_per_token` of head 1, and `bits_per_token@head2` and so on: minus the mean log2
      probability.
    - `accuracy@head1` and so on: share of tokens that are the most probable one.
    - `true_text_tokens_per_forward@k1` and so on: tokens per forward of self-speculative decoding
      with k heads if head 1 predicted the true text. From the start of each window, a forward gives
      the next token and the drafts of heads 2 to k before the first wrong one. Unlike in decoding,
      a model that repeats itself gains nothing by it.

    Args:
        batch_size: windows read together; changes speed and memory only.
        context: tokens of a window.
        max_tokens: score only so many tokens, in windows spread evenly over the documents; None
            for all.
    """

    columns = ("text",)

    @takes(
        "evaluator",
        batch_size=COUNT,
        context=COUNT,
        max_tokens=NO_LIMIT,
    )
    def __init__(self, batch_size: int, context: int, max_tokens: int | None = None) -> None:
        if max_tokens is not None and max_tokens < context:
            raise UsageError(
                f"evaluator.max_tokens={max_tokens} is less than a window: give at least "
                f"evaluator.context={context}"
            )
        self.batch_size = batch_size
        self.context = context
        self.max_tokens = max_tokens

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Scores documents (columns text, task).

        Predictions hold, for each scored document, its task, the number of tokens and bytes, and
        for each head the bits and the number of right tokens.

        Raises:
            UsageError: the documents are empty, or the model cannot score them.
        """
        check_predicts_tokens(subject.model)
        check_context(subject.model, self.context, "evaluator.context")
        n = subject.model.head.n
        ahead = 1 if subject.model.head.reads_tokens else n
        windows, documents = self._windows(subject.tokenizer, examples, ahead)
        if not windows:
            raise UsageError("the held-out documents are empty: use more data")
        shape = len(documents), n
        count, bits, right = np.zeros(shape, int), np.zeros(shape), np.zeros(shape, int)
        size = np.zeros(len(documents), int)
        forwards = np.zeros(n, int)
        for window, scores in zip(windows, self._scores(subject, windows), strict=True):
            count[window.document] += scores.known.sum(0)
            bits[window.document] += scores.bits.sum(0)
            right[window.document] += scores.right.sum(0)
            size[window.document] += window.bytes
            forwards += [count_forwards(scores.right[:, 1 : k + 1]) for k in range(n)]
        metrics: dict[str, float] = {}
        if size.any():
            metrics["bits_per_byte"] = float(bits[:, 0].sum() / size.sum())
        for i, total in enumerate(count.sum(0)):
            if total:  # else no document is long enough for this head
                name = f"bits_per_token@head{i + 1}" if i else "bits_per_token"
                metrics[name] = float(bits[:, i].sum() / total)
                metrics[f"accuracy@head{i + 1}"] = float(right[:, i].sum() / total)
        for k in range(1, n + 1):
            gain = count[:, 0].sum() / forwards[k - 1]
            metrics[f"true_text_tokens_per_forward@k{k}"] = float(gain)
        predictions = pd.DataFrame({"task": documents, "tokens": count[:, 0], "bytes": size})
        for i in range(n):
            predictions[f"bits@head{i + 1}"] = bits[:, i]
            predictions[f"right@head{i + 1}"] = right[:, i]
        return Evaluation(metrics, predictions[predictions["tokens"] > 0].reset_index(drop=True))

    def _windows(
        self, tokenizer: Tokenizer, examples: datasets.Dataset, ahead: int
    ) -> tuple[list[Window], list[str]]:
        """The windows to score, with labels up to `ahead` tokens after the last input; and the task
        of every document."""
        most = None if self.max_tokens is None else self.max_tokens // self.context
        examples = subsample(examples, most)  # no need for more documents than windows
        texts = tokenizer.encode(list(examples["text"]))
        tokens = [[*document, tokenizer.eos_id] for document in texts]
        starts = [
            (i, start)
            for i, document in enumerate(tokens)
            for start in range(0, len(document) - 1, self.context)
        ]
        if most is not None and len(starts) > most:
            kept = np.linspace(0, len(starts) - 1, most).round().astype(int)
            starts = [starts[i] for i in kept]
        shares = {
            i: _bytes_per_decoded_byte(tokenizer, examples[i]["text"], texts[i])
            for i in {i for i, _ in starts}
        }
        windows = []
        for i, start in starts:
            end = start + self.context
            first, scored = tokens[i][start : start + 1], tokens[i][start : end + 1]
            windows.append(
                Window(
                    document=i,
                    inputs=tokens[i][start : min(end, len(tokens[i]) - 1)],
                    future=tokens[i][start + 1 : end + ahead],
                    # A difference, because a tokenizer may drop the space at the start of a text.
                    bytes=round(
                        (_count_bytes(tokenizer, scored) - _count_bytes(tokenizer, first))
                        * shares[i]
                    ),
                )
            )
        # Similar lengths share a batch; the longest go first, to run out of memory early.
        windows.sort(key=lambda window: len(window.inputs), reverse=True)
        return windows, list(examples["task"])

    @torch.inference_mode()
    def _scores(self, subject: Subject, windows: list[Window]) -> Iterator[WindowScores]:
        """The scores of the windows, in their order."""
        device = subject.device
        model = subject.model.to(device)
        n = model.head.n
        with evaluating(model):
            for start in range(0, len(windows), self.batch_size):
                part = windows[start : start + self.batch_size]
                inputs = [window.inputs for window in part]
                batch = Batch(
                    input_ids=pad(inputs, model.pad_id),
                    attention_mask=token_mask(inputs),
                    labels=_labels([window.future for window in part], len(inputs[0]), n),
                ).to(device)
                hidden = model.trunk(batch)
                bits = torch.zeros(batch.labels.shape, dtype=torch.float64, device=device)
                right = torch.zeros_like(bits, dtype=torch.bool)
                for i in range(n):
                    known = batch.labels[..., i] != IGNORED
                    features = model.head.features(hidden, i)[known]
                    scored = score_features(model, features, batch.labels[..., i][known], i)
                    bits[..., i][known], right[..., i][known] = scored
                tensors = (batch.labels != IGNORED, bits, right)
                arrays = [tensor.cpu().numpy() for tensor in tensors]
                for row, tokens in enumerate(inputs):
                    yield WindowScores(*(array[row, : len(tokens)] for array in arrays))


def count_forwards(right: np.ndarray) -> int:
    """The number of forwards that a text takes, if each gives the next token and the drafts before
    the first wrong one.

    Args:
        right: bool [T, drafts]; which of the drafts at each position are right.
    """
    gains = (1 + np.cumprod(right, axis=1, dtype=int).sum(1)).tolist()
    forwards = position = 0
    while position < len(gains):
        position += gains[position]
        forwards += 1
    return forwards


def _labels(futures: list[list[int]], length: int, n: int) -> Tensor:
    """Long [B, length, n]: the next n tokens after each position, IGNORED where there is none."""
    width = length + n - 1
    rows = [future + [IGNORED] * (width - len(future)) for future in futures]
    return torch.tensor(rows).unfold(1, n, 1)


def score_features(
    model: LanguageModel, features: Tensor, labels: Tensor, offset: int
) -> tuple[Tensor, Tensor]:
    """Bits (float64 [P]) of labels and whether they are the most probable token (bool [P]), from
    features [P, D] of one head; never holds all logits."""
    bits, right = [], []
    for start in range(0, len(labels), width := positions_at_once(model)):
        part = labels[start : start + width]
        logits = _logits(model.head, features[start : start + width], offset).float()
        bits.append(F.cross_entropy(logits, part, reduction="none").double() / math.log(2))
        right.append(logits[:, : model.vocab_size].argmax(-1) == part)
    if not bits:
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.bool)
    return torch.cat(bits), torch.cat(right)


def _logits(head: Head, features: Tensor, offset: int) -> Tensor:
    matrix = head.unembedding(offset)
    return head.logits(features[None], offset)[0] if matrix is None else features @ matrix.T


def _count_bytes(tokenizer: Tokenizer, ids: list[int]) -> int:
    return len(tokenizer.decode(ids).encode("utf-8", "surrogateescape"))


def _bytes_per_decoded_byte(tokenizer: Tokenizer, text: str, ids: list[int]) -> float:
    """1 for tokenizers that give a text back; T5's, for one, merges spaces."""
    decoded = tokenizer.decode(ids)
    if decoded == text or not decoded:
        return 1.0
    size = len(text.encode("utf-8", "surrogateescape"))
    return size / len(decoded.encode("utf-8", "surrogateescape"))
