"""Scores summaries by their overlap with the reference: ROUGE (Lin 2004).

Source: MTP paper, figure 6 and tables S8 to S10.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from beyond_ce.data.summaries import END
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import (
    AnswerEvaluator,
    Evaluation,
    Subject,
    subsample,
)
from beyond_ce.settings import FLAG, takes

if TYPE_CHECKING:
    import datasets

KINDS = ("rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum")
_ASPECTS = {"": "fmeasure", "_precision": "precision", "_recall": "recall"}


class Rouge(AnswerEvaluator):
    """Generates a summary of every document and compares it with the reference (see `rouge`).

    A prompt that leaves no room for `max_new_tokens` in the model's context loses the last tokens
    of its document; `truncated` is the share of such prompts. `words` is the mean number of words
    of the summaries, and `finished` the share of those that the model ended itself. To compare
    with, ROUGE-L without a model: `lead_rougeL` of each document's first sentence, and
    `other_rougeL` of the next document's reference.

    Args:
        stemmer: compare words by their stems (Porter's), as the examples of transformers do. The
            MTP paper does not say.
        settings: as for `AnswerEvaluator`.
    """

    @takes("evaluator", stemmer=FLAG)
    def __init__(self, *, stemmer: bool = True, **settings: Any) -> None:
        super().__init__(**settings)
        self.stemmer = stemmer

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Predictions have the columns prompt, answer, task, prediction and finished.

        Raises:
            UsageError: the model does not predict tokens, or its context is too short for
                `max_new_tokens`.
        """
        examples = subsample(examples, self.max_examples)
        prompts = subject.tokenizer.encode(list(examples["prompt"]))
        read = self._fitting(subject, prompts, self.longest(subject.tokenizer, examples))
        predictions = self.written(subject, examples, read)
        if predictions.empty:
            return Evaluation({}, predictions)
        references = list(predictions["answer"])
        lead = [_first_sentence(prompt) for prompt in predictions["prompt"]]
        others = [*references[1:], references[0]]
        cut = [short != whole for short, whole in zip(read, prompts, strict=True)]
        metrics = {
            **rouge(list(predictions["prediction"]), references, self.stemmer),
            "lead_rougeL": rouge(lead, references, self.stemmer)["rougeL"],
            "other_rougeL": rouge(others, references, self.stemmer)["rougeL"],
            "words": float(predictions["prediction"].str.split().str.len().mean()),
            "finished": float(predictions["finished"].mean()),
            "truncated": float(np.mean(cut)),
        }
        return Evaluation(metrics, predictions)

    def _fitting(
        self, subject: Subject, prompts: Sequence[list[int]], longest: int
    ) -> list[list[int]]:
        """The prompts, without tokens of the documents' ends where they would be too long."""
        context = subject.model.max_length
        if context is None:
            return list(prompts)
        (end,) = map(len, subject.tokenizer.encode([END]))
        room = context - longest + 1  # the model never reads the last new token
        if room <= end:
            raise UsageError(
                f"evaluator.max_new_tokens={longest} leaves no room for a document in the model's "
                f"context of {context} tokens: lower it"
            )
        return [
            prompt if len(prompt) <= room else [*prompt[: room - end], *prompt[-end:]]
            for prompt in prompts
        ]


def _first_sentence(prompt: str) -> str:
    """All of a document in which no sentence ends."""
    return re.split(r"(?<=[.!?])\s", prompt.removesuffix(END), maxsplit=1)[0]


def rouge(
    predictions: Sequence[str], references: Sequence[str], stemmer: bool = True
) -> dict[str, float]:
    """ROUGE of texts against one reference each, 0 to 1, means over the texts.

    `rouge1`, `rouge2` and `rouge3` count common words, pairs and triples; `rougeL` is about the
    longest common subsequence, and `rougeLsum` takes it line by line. Each is F1, and with
    `_precision` and `_recall` in its name what F1 is of. All by rouge_score.

    NOTE: rouge_score drops all but ASCII letters and digits, and gives 0 where nothing is left. It
    seems to be what the paper has for its Persian data sets (ROUGE-1 of 1). The paper's ROUGE-Lsum
    differs from its ROUGE-L for CNN/Dailymail alone, whose summaries have lines: so it too splits
    at the lines that there are, and not into sentences.
    """
    from rouge_score.rouge_scorer import RougeScorer

    if not references:
        return {}
    scorer = RougeScorer(list(KINDS), use_stemmer=stemmer)
    pairs = zip(predictions, references, strict=True)
    scores = [scorer.score(reference, text) for text, reference in pairs]
    return {
        f"{kind}{name}": float(np.mean([getattr(score[kind], aspect) for score in scores]))
        for kind in KINDS
        for name, aspect in _ASPECTS.items()
    }
