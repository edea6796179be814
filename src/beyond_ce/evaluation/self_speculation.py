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
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import (
    Evaluation,
    Evaluator,
    Subject,
    check_context,
    check_predicts_tokens,
    subsample,
)
from beyond_ce.generation import Generation, generate
from beyond_ce.profiling import in_turns, median_ratio
from beyond_ce.settings import COUNT, each, optional, takes

if TYPE_CHECKING:
    import datasets

    from beyond_ce.models.base import LanguageModel
    from beyond_ce.tokenizers.base import Tokenizer

Tokens = list[list[int]]

_NGRAM = 8  # length of the n-grams in the `repeated` metrics
_DOCUMENTS_PER_PROMPT = 32  # at least one of them should be long enough
_ROUNDING_POSITIONS = 16  # rounding errors are measured in the logits of so many last positions


class SelfSpeculation(Evaluator):
    """Continues held-out documents with k heads and with one head, and compares time and text.

    Prompts are pieces of documents, spread evenly. All continuations have `max_new_tokens` tokens:
    an end token does not stop them. Metrics are over all prompts. `@k2` stands for two heads with
    one prompt at a time, `@k2b8` for batches of eight.

    - `tokens_per_forward@k2`: new tokens / forward passes, where a pass counts once for every
      prompt in it.
    - `tokens_per_second@k2`: the time to read the prompts included; median over the repeats.
    - `speedup@k2`: time with one head / time with two, at the same batch size; median over the
      repeats, in each of which all k take turns.
    - `different@k2`: share of prompts whose continuation differs from that of one head.
    - `unexplained@k2`: share of prompts whose continuation first differs from that of one head at a
      position that is not a near-tie. In a near-tie, the float64 logits of both tokens are within
      rounding of the largest logit. Rounding is twice the largest error of the model's own
      precision in the logits near that position. Anything above 0 is a bug in decoding.
    - `repeated@greedy`: share of a continuation's 8-grams of tokens that occurred in it before,
      mean over prompts; `repeated@true_text` is the same for the documents' own continuations. A
      model that repeats itself is easy to draft for.

    Args:
        batch_sizes: prompts decoded together; the first gives the continuations in the predictions.
        prompt_tokens, max_new_tokens: lengths of prompts and continuations.
        max_prompts: at most so many, fewer if the documents are too short. Unless it is a multiple
            of all batch sizes, the last batches are smaller.
        heads: numbers k of heads to decode with, those above the model's number left out; None for
            all from 1.
        repeats: how often the decoding with each k is timed, after a warm-up.
    """

    columns = ("text",)
    needs_drafts = True

    @takes(
        "evaluator",
        batch_sizes=each(COUNT),
        prompt_tokens=COUNT,
        max_new_tokens=COUNT,
        max_prompts=COUNT,
        heads=optional(each(COUNT)),
        repeats=COUNT,
    )
    def __init__(
        self,
        batch_sizes: Sequence[int],
        prompt_tokens: int,
        max_new_tokens: int,
        max_prompts: int,
        heads: Sequence[int] | None = None,
        repeats: int = 3,
    ) -> None:
        self.batch_sizes = list(batch_sizes)
        self.prompt_tokens = prompt_tokens
        self.max_new_tokens = max_new_tokens
        self.max_prompts = max_prompts
        self.heads = None if heads is None else list(heads)
        self.repeats = repeats

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Continues prompts from documents (columns text, task).

        Predictions hold, for each prompt, its task, its text, the continuation with the most heads,
        and the pieces that single forwards gave, as texts and as numbers of tokens.

        Raises:
            UsageError: the documents are too short, or the model cannot continue them.
            RunError: the model's logits are not finite.
        """
        model, tokenizer = subject.model, subject.tokenizer
        check_predicts_tokens(model)
        lengths = "evaluator.prompt_tokens + evaluator.max_new_tokens - 1"
        check_context(model, self.prompt_tokens + self.max_new_tokens - 1, lengths)
        tasks, prompts, true_texts = self._prompts(tokenizer, examples)
        device = torch.device(subject.device)
        model = model.to(device)
        wanted = range(1, model.head.n + 1) if self.heads is None else self.heads
        heads = sorted({1, *(k for k in wanted if k <= model.head.n)})
        metrics: dict[str, float] = {}
        for batch_size in self.batch_sizes:
            metrics |= self._compare(model, prompts, heads, batch_size, device)
        texts, pieces = self._pieces(model, prompts, heads[-1])
        if self.max_new_tokens >= _NGRAM:
            metrics["repeated@greedy"] = float(np.mean([repeated(text) for text in texts]))
            metrics["repeated@true_text"] = float(np.mean([repeated(text) for text in true_texts]))
        predictions = pd.DataFrame(
            {
                "task": tasks,
                "prompt": [tokenizer.decode(prompt) for prompt in prompts],
                "continuation": [tokenizer.decode(text) for text in texts],
                "pieces": [[tokenizer.decode(piece) for piece in row] for row in pieces],
                "sizes": [[len(piece) for piece in row] for row in pieces],
            }
        )
        return Evaluation(metrics, predictions)

    def _prompts(
        self, tokenizer: Tokenizer, examples: datasets.Dataset
    ) -> tuple[list[str], Tokens, Tokens]:
        """The task of every prompt, its tokens, and the tokens that follow it in the document."""
        examples = subsample(examples, _DOCUMENTS_PER_PROMPT * self.max_prompts)
        tasks, length = list(examples["task"]), self.prompt_tokens + self.max_new_tokens
        pieces = [
            (tasks[i], document[start : start + length])
            for i, document in enumerate(tokenizer.encode(list(examples["text"])))
            for start in range(0, len(document) - length + 1, length)
        ]
        if not pieces:
            raise UsageError(
                f"no held-out document has {length} tokens: lower evaluator.prompt_tokens "
                "or evaluator.max_new_tokens"
            )
        kept = np.linspace(0, len(pieces) - 1, min(self.max_prompts, len(pieces)))
        pieces = [pieces[i] for i in kept.round().astype(int)]
        prompts = [piece[: self.prompt_tokens] for _, piece in pieces]
        return [task for task, _ in pieces], prompts, [p[self.prompt_tokens :] for _, p in pieces]

    def _compare(
        self,
        model: LanguageModel,
        prompts: Tokens,
        heads: Sequence[int],
        batch_size: int,
        device: torch.device,
    ) -> dict[str, float]:
        """The metrics of one batch size."""
        generations: dict[int, Generation] = {}

        def decode(k: int, prompts: Tokens) -> None:
            generations[k] = generate(
                model, prompts, self.max_new_tokens, heads=k, batch_size=batch_size
            )

        for k in heads:  # warm-up, which allocates and compiles
            decode(k, prompts[:batch_size])
        steps = {str(k): partial(decode, k, prompts) for k in heads}
        seconds = in_turns(steps, self.repeats, random.Random(0), device)
        metrics: dict[str, float] = {}
        for k in heads:
            name = f"k{k}" if batch_size == 1 else f"k{k}b{batch_size}"
            count = len(prompts) * self.max_new_tokens
            metrics[f"tokens_per_forward@{name}"] = generations[k].tokens_per_forward
            metrics[f"tokens_per_second@{name}"] = count / statistics.median(seconds[str(k)])
            metrics[f"speedup@{name}"] = median_ratio(seconds["1"], seconds[str(k)])
            texts = generations[1].tokens, generations[k].tokens
            different, unexplained = differences(model, prompts, *texts)
            metrics[f"different@{name}"] = different
            metrics[f"unexplained@{name}"] = unexplained
        return metrics

    def _pieces(
        self, model: LanguageModel, prompts: Tokens, heads: int
    ) -> tuple[Tokens, list[Tokens]]:
        """Every prompt's continuation, as a whole and in the pieces that single forwards gave."""
        pieces: list[Tokens] = [[] for _ in prompts]
        generation = generate(
            model,
            prompts,
            self.max_new_tokens,
            heads=heads,
            batch_size=self.batch_sizes[0],
            on_tokens=lambda i, tokens: pieces[i].append(tokens),
        )
        return generation.tokens, pieces


def repeated(tokens: list[int]) -> float:
    """Share of a text's 8-grams that occurred in it before."""
    grams = [tuple(tokens[i : i + _NGRAM]) for i in range(len(tokens) - _NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams)


def differences(
    model: LanguageModel, prompts: Tokens, greedy: Tokens, other: Tokens
) -> tuple[float, float]:
    """Share of prompts whose continuations differ, and share that first differ at no near-tie."""
    different = [i for i in range(len(prompts)) if greedy[i] != other[i]]
    if not different:
        return 0.0, 0.0
    exact = copy.deepcopy(model).double()
    unexplained = 0
    for i in different:
        pairs = list(zip(greedy[i], other[i], strict=True))
        first = next(t for t, (one, two) in enumerate(pairs) if one != two)
        unexplained += not near_tie(model, exact, prompts[i] + greedy[i][:first], pairs[first])
    return len(different) / len(prompts), unexplained / len(prompts)


@torch.inference_mode()
def near_tie(
    model: LanguageModel, exact: LanguageModel, tokens: list[int], pair: tuple[int, int]
) -> bool:
    """Whether rounding decides which token of the pair follows `tokens` (see `SelfSpeculation`).

    Args:
        exact: the model in float64.
    """
    logits, true = _last_logits(model, tokens), _last_logits(exact, tokens)
    rounding = 2 * (logits.double() - true).abs().max()
    return bool(true[-1].max() - true[-1, list(pair)].min() <= rounding)


def _last_logits(model: LanguageModel, tokens: list[int]) -> Tensor:
    """Logits [P, V] at the last few of the given tokens."""
    ids = torch.tensor([tokens], device=model.embedding.weight.device)
    hidden = model.trunk(Batch(ids, torch.ones_like(ids, dtype=torch.bool), labels=ids))
    return model.head.logits(hidden[:, -_ROUNDING_POSITIONS:])[0, :, : model.vocab_size]
