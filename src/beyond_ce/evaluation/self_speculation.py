"""What several heads save when decoding: forwards, time, and whether the text stays the same.

Source: MTP paper, section 3.2 and tables S2, S3 and figure S10.
"""

from __future__ import annotations

import copy
import random
import statistics
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from beyond_ce.batches.batch import Batch
from beyond_ce.errors import UsageError, check_at_least_one
from beyond_ce.evaluation.evaluator import (
    Evaluation,
    Evaluator,
    Subject,
    check_context,
    check_predicts_tokens,
    spread,
)
from beyond_ce.generation import Generation, generate
from beyond_ce.profiling import in_turns

if TYPE_CHECKING:
    import datasets

    from beyond_ce.models.base import LanguageModel
    from beyond_ce.tokenizers.base import Tokenizer

Tokens = list[list[int]]

_REPEATED = 8  # tokens of the pieces that are counted as repeated
_DOCUMENTS_PER_PROMPT = 32  # of which one at least should be long enough
_ROUNDING_FROM = 16  # the last positions, which the size of rounding errors is taken from


class SelfSpeculation(Evaluator):
    """Continues held-out documents with the first k heads and with the first one alone.

    Prompts are pieces of documents, spread evenly, and all continuations have `max_new_tokens`
    tokens: an end token does not stop them. Metrics are over all prompts; `@k2` stands for two
    heads with one prompt at a time, `@k2b8` for batches of eight.

    - `tokens_per_forward@k2`: new tokens by forward passes, each counted once for every prompt in
      it.
    - `tokens_per_second@k2`: prompts read included, median over the repeats.
    - `speedup@k2`: time with one head by time with two, at the same batch size; median over the
      repeats, in each of which all k take turns.
    - `different@k2`: share of prompts whose continuation is not that of one head.
    - `unexplained@k2`: share of prompts whose continuation parts from that of one head where it is
      no near-tie. A near-tie is where, in float64, both tokens are within rounding of the largest
      logit: twice the largest error that the model's own precision makes in a logit near there.
      Anything above 0 is a mistake in decoding.
    - `repeated@greedy`: share of a continuation's 8-grams of tokens that it has said before, mean
      over prompts; `repeated@true_text` is that of the documents' own continuations. A model that
      repeats itself is easy to draft for.

    Args:
        batch_sizes: prompts decoded together; the first gives the continuations in the predictions.
        prompt_tokens, max_new_tokens: lengths of prompts and continuations.
        max_prompts: fewer if the documents have not as many; a multiple of all batch sizes, or
            the last batches are smaller.
        heads: numbers k of heads to decode with, of which those that the model has are used; None
            for all from 1.
        repeats: how often each decoding is timed, after a warm-up.
    """

    columns = ("text",)

    def __init__(
        self,
        batch_sizes: Sequence[int],
        prompt_tokens: int,
        max_new_tokens: int,
        max_prompts: int,
        heads: Sequence[int] | None = None,
        repeats: int = 3,
    ) -> None:
        check_at_least_one(
            "evaluator",
            batch_sizes=min(batch_sizes, default=0),
            heads=None if heads is None else min(heads, default=0),
            prompt_tokens=prompt_tokens,
            max_new_tokens=max_new_tokens,
            max_prompts=max_prompts,
            repeats=repeats,
        )
        self.batch_sizes = list(batch_sizes)
        self.prompt_tokens = prompt_tokens
        self.max_new_tokens = max_new_tokens
        self.max_prompts = max_prompts
        self.heads = None if heads is None else list(heads)
        self.repeats = repeats

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Continues prompts from documents (columns text, task).

        Predictions hold, for each prompt, its task, its text, the continuation with the most heads,
        and the pieces that it came in, one per forward, as texts and as numbers of tokens.

        Raises:
            UsageError: the documents are too short, or are nothing for the model.
            RunError: the model's logits are not finite.
        """
        model, tokenizer = subject.model, subject.tokenizer
        check_predicts_tokens(model)
        lengths = "evaluator.prompt_tokens + evaluator.max_new_tokens - 1"
        check_context(model, self.prompt_tokens + self.max_new_tokens - 1, lengths)
        tasks, prompts, true = self._prompts(tokenizer, examples)
        device = torch.device(subject.device)
        model = model.to(device)
        chosen = range(1, model.head.n + 1) if self.heads is None else self.heads
        heads = sorted({1, *(k for k in chosen if k <= model.head.n)})
        metrics: dict[str, float] = {}
        for batch_size in self.batch_sizes:
            metrics |= self._compare(model, prompts, heads, batch_size, device)
        texts, pieces = self._pieces(model, prompts, heads[-1])
        if self.max_new_tokens >= _REPEATED:
            metrics["repeated@greedy"] = float(np.mean([repeated(each) for each in texts]))
            metrics["repeated@true_text"] = float(np.mean([repeated(each) for each in true]))
        predictions = pd.DataFrame(
            {
                "task": tasks,
                "prompt": [tokenizer.decode(each) for each in prompts],
                "continuation": [tokenizer.decode(each) for each in texts],
                "pieces": [[tokenizer.decode(piece) for piece in each] for each in pieces],
                "sizes": [[len(piece) for piece in each] for each in pieces],
            }
        )
        return Evaluation(metrics, predictions)

    def _prompts(
        self, tokenizer: Tokenizer, examples: datasets.Dataset
    ) -> tuple[list[str], Tokens, Tokens]:
        """Of each prompt the document's name, its tokens, and those that follow in the document."""
        examples = spread(examples, _DOCUMENTS_PER_PROMPT * self.max_prompts)
        names, length = list(examples["task"]), self.prompt_tokens + self.max_new_tokens
        pieces = [
            (names[i], document[start : start + length])
            for i, document in enumerate(tokenizer.encode(list(examples["text"])))
            for start in range(0, len(document) - length + 1, length)
        ]
        if not pieces:
            raise UsageError(
                f"no held-out document has {length} tokens: lower evaluator.prompt_tokens "
                "or evaluator.max_new_tokens"
            )
        chosen = np.linspace(0, len(pieces) - 1, min(self.max_prompts, len(pieces)))
        pieces = [pieces[i] for i in chosen.round().astype(int)]
        prompts = [piece[: self.prompt_tokens] for _, piece in pieces]
        return [name for name, _ in pieces], prompts, [p[self.prompt_tokens :] for _, p in pieces]

    def _compare(
        self,
        model: LanguageModel,
        prompts: Tokens,
        heads: Sequence[int],
        batch_size: int,
        device: torch.device,
    ) -> dict[str, float]:
        """All metrics of one batch size."""
        found: dict[int, Generation] = {}

        def decode(k: int, prompts: Tokens) -> None:
            found[k] = generate(model, prompts, self.max_new_tokens, heads=k, batch_size=batch_size)

        for k in heads:  # warm-up, which allocates and compiles
            decode(k, prompts[:batch_size])
        steps = {str(k): partial(decode, k, prompts) for k in heads}
        seconds = in_turns(steps, self.repeats, random.Random(0), device)
        metrics: dict[str, float] = {}
        for k in heads:
            name = f"k{k}" if batch_size == 1 else f"k{k}b{batch_size}"
            own, plain = seconds[str(k)], seconds["1"]
            count = len(prompts) * self.max_new_tokens
            metrics[f"tokens_per_forward@{name}"] = found[k].tokens_per_forward
            metrics[f"tokens_per_second@{name}"] = count / statistics.median(own)
            ratios = [before / after for before, after in zip(plain, own, strict=True)]
            metrics[f"speedup@{name}"] = statistics.median(ratios)
            texts = found[1].tokens, found[k].tokens
            different, unexplained = differences(model, prompts, *texts)
            metrics[f"different@{name}"] = different
            metrics[f"unexplained@{name}"] = unexplained
        return metrics

    def _pieces(
        self, model: LanguageModel, prompts: Tokens, heads: int
    ) -> tuple[Tokens, list[Tokens]]:
        """Each prompt's continuation, whole and in the pieces that single forwards gave."""
        pieces: list[Tokens] = [[] for _ in prompts]
        found = generate(
            model,
            prompts,
            self.max_new_tokens,
            heads=heads,
            batch_size=self.batch_sizes[0],
            on_tokens=lambda i, tokens: pieces[i].append(tokens),
        )
        return found.tokens, pieces


def repeated(tokens: list[int]) -> float:
    """Share of the 8-grams of a text that it has said before."""
    grams = [tuple(tokens[i : i + _REPEATED]) for i in range(len(tokens) - _REPEATED + 1)]
    return 1 - len(set(grams)) / len(grams)


def differences(
    model: LanguageModel, prompts: Tokens, greedy: Tokens, other: Tokens
) -> tuple[float, float]:
    """Share of prompts whose two continuations differ, and of those that differ at no near-tie."""
    different = [i for i in range(len(prompts)) if greedy[i] != other[i]]
    if not different:
        return 0.0, 0.0
    exact = copy.deepcopy(model).double()
    unexplained = 0
    for i in different:
        pairs = list(zip(greedy[i], other[i], strict=True))
        same = next(t for t, (one, two) in enumerate(pairs) if one != two)
        unexplained += not near_tie(model, exact, prompts[i] + greedy[i][:same], pairs[same])
    return len(different) / len(prompts), unexplained / len(prompts)


@torch.inference_mode()
def near_tie(
    model: LanguageModel, exact: LanguageModel, tokens: list[int], pair: tuple[int, int]
) -> bool:
    """Whether rounding may choose either token of the pair after `tokens` (see `SelfSpeculation`).

    Args:
        exact: the model in float64.
    """
    own, true = (_last_logits(each, tokens) for each in (model, exact))
    rounding = 2 * (own.double() - true).abs().max()
    return bool(true[-1].max() - true[-1, list(pair)].min() <= rounding)


def _last_logits(model: LanguageModel, tokens: list[int]) -> Tensor:
    """Logits [P, V] of the tokens after the last few of the given ones."""
    ids = torch.tensor([tokens], device=model.embedding.weight.device)
    hidden = model.trunk(Batch(ids, torch.ones_like(ids, dtype=torch.bool), labels=ids))
    return model.head.logits(hidden[:, -_ROUNDING_FROM:])[0, :, : model.vocab_size]
