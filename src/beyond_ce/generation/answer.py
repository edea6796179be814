"""From questions to answers as text, whatever the head predicts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch

import torch

from beyond_ce.batches.batch import Numbers
from beyond_ce.data.numbers import plain
from beyond_ce.generation.generate import SEQUENCES_AT_ONCE, generate
from beyond_ce.models import LanguageModel, evaluating
from beyond_ce.models.heads import Head, RegressionHead, XValHead
from beyond_ce.settings import COUNT, NO_LIMIT, takes
from beyond_ce.tokenizers import Tokenizer, XValTokenizer


@dataclass(frozen=True)
class _Settings:
    """Arguments of `answer`."""

    max_new_tokens: int
    num_beams: int
    batch_size: int | None


@takes(
    "",
    max_new_tokens=COUNT,
    num_beams=COUNT,
    batch_size=NO_LIMIT,
)
def answer(
    model: LanguageModel,
    tokenizer: Tokenizer,
    texts: list[str],
    device: torch.device | str,
    max_new_tokens: int,
    num_beams: int = 1,
    batch_size: int | None = None,
) -> list[str]:
    """The model's answer to each text, in their order; `model` is moved to `device`.

    A head that predicts tokens generates them, greedily or with beam search (see `generate`). Other
    heads answer in one forward pass and ignore `max_new_tokens` and `num_beams`.

    Args:
        max_new_tokens: longest answer, EOS included.
        num_beams: width of the beam search, 1 for greedy decoding.
        batch_size: texts answered together; changes time and memory only.

    Raises:
        UsageError: a number is out of range, or a text does not fit the model.
    """
    settings = _Settings(max_new_tokens, num_beams, batch_size)
    return _answer(model.head, model.to(device), tokenizer, texts, settings)


@singledispatch
def _answer(
    head: Head,
    model: LanguageModel,
    tokenizer: Tokenizer,
    texts: list[str],
    settings: _Settings,
) -> list[str]:
    generation = generate(
        model,
        tokenizer.encode(texts),
        max_new_tokens=settings.max_new_tokens,
        eos_id=tokenizer.eos_id,
        num_beams=settings.num_beams,
        batch_size=settings.batch_size,
    )
    return [tokenizer.decode(tokens) for tokens in generation.tokens]


@_answer.register
def _regress(
    head: RegressionHead,
    model: LanguageModel,
    tokenizer: Tokenizer,
    texts: list[str],
    settings: _Settings,
) -> list[str]:
    prompts = tokenizer.encode(texts)

    def predict(rows: list[int]) -> list[str]:
        unknown = Numbers(answers=[math.nan] * len(rows))
        batch = model.make_batch([prompts[i] for i in rows], [[]] * len(rows), unknown)
        hidden = model.trunk(batch.to(model.embedding.weight.device))
        return [plain(value) for value in head.values(head.logits(hidden))]

    return _in_batches(predict, prompts, model, settings)


@_answer.register
def _fill_in(
    head: XValHead,
    model: LanguageModel,
    tokenizer: Tokenizer,
    texts: list[str],
    settings: _Settings,
) -> list[str]:
    assert isinstance(tokenizer, XValTokenizer)
    prompts, numbers = tokenizer.encode(texts), tokenizer.token_numbers(texts)

    def predict(rows: list[int]) -> list[str]:
        empty: list[list] = [[] for _ in rows]
        given = Numbers([math.nan] * len(rows), [numbers[i] for i in rows], empty)
        batch = model.make_batch([prompts[i] for i in rows], empty, given)
        hidden = model.trunk(batch.to(model.embedding.weight.device))
        predictions = head.logits(hidden)
        ids = predictions[..., : tokenizer.vocab_size].argmax(dim=-1).tolist()
        values = head.values(predictions[..., -1])
        return [tokenizer.decode(*pair) for pair in zip(ids, _numbers(ids, values), strict=True)]

    def _numbers(ids: list[list[int]], values: list[list[float]]) -> list[list[str]]:
        return [
            [plain(value) for i, value in zip(*row, strict=True) if i == tokenizer.num_id]
            for row in zip(ids, values, strict=True)
        ]

    return _in_batches(predict, prompts, model, settings)


@torch.inference_mode()
def _in_batches(
    predict: Callable[[list[int]], list[str]],
    prompts: list[list[int]],
    model: LanguageModel,
    settings: _Settings,
) -> list[str]:
    """Answers all prompts with `predict`, in batches, the longest prompts first."""
    size = SEQUENCES_AT_ONCE if settings.batch_size is None else settings.batch_size
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    answers = [""] * len(prompts)
    with evaluating(model):
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            for i, text in zip(rows, predict(rows), strict=True):
                answers[i] = text
    return answers
