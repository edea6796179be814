"""Scores answers that are text: overlap of generated answers, and prediction token by token."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch.nn import functional as F

from beyond_ce.evaluation.evaluator import AnswerEvaluator, Evaluation, Subject, subsample
from beyond_ce.evaluation.teacher_forcing import teacher_forced

if TYPE_CHECKING:
    import datasets


_NO_SPACES = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")  # kana, and Chinese characters


class TextOverlap(AnswerEvaluator):
    """Scores generated text (`overlap`), and the tokens of the true answer (`token_scores`)."""

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        examples = subsample(examples, self.max_examples)
        predictions = self.answers(subject, examples)
        metrics = token_scores(subject, examples, self.batch_size)
        metrics |= overlap(list(predictions["prediction"]), list(predictions["answer"]))
        return Evaluation(metrics, predictions)


def overlap(predictions: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    """Metrics of generated texts against one answer each.

    - `exact_match`: share of texts equal to the answer but for white space.
    - `bleu`: corpus BLEU of sacrebleu, 0 to 100, over all texts at once, signature
      nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp.
    - `rouge1`: F1 of unigrams after Porter stemming (rouge_score), 0 to 1, mean over texts.
      rouge_score drops all but ASCII letters and digits. A text without any is split into words
      by white space and punctuation, and Chinese and Japanese into characters.

    NOTE: the paper's evaluation averages the corpus BLEU of each of its batches, which depends on
    the batch size.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU

    if not answers:
        return {}
    pairs = list(zip(predictions, answers, strict=True))
    scorer = RougeScorer(["rouge1"], tokenizer=_RougeWords())
    rouge1 = [scorer.score(answer, text)["rouge1"].fmeasure for text, answer in pairs]
    return {
        "exact_match": float(np.mean([text.split() == answer.split() for text, answer in pairs])),
        "bleu": BLEU().corpus_score(list(predictions), [list(answers)]).score,
        "rouge1": float(np.mean(rouge1)),
    }


class _RougeWords:
    """rouge_score's words with stems, or those of another script."""

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self._ascii = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        return self._ascii.tokenize(text) or _words(text)


def _words(text: str) -> list[str]:
    """Letters, marks and numbers that belong together; all that is no white space if there are
    none, so that even "?" equals itself."""
    separated = "".join(
        f" {c} " if _NO_SPACES.match(c) else c if unicodedata.category(c)[0] in "LMN" else " "
        for c in text.lower()
    )
    return separated.split() or text.split()


def token_scores(subject: Subject, examples: datasets.Dataset, batch_size: int) -> dict[str, float]:
    """Metrics over all tokens of all answers, the end tokens included, each token counting once.

    - `token_accuracy`: share of tokens that are the most probable one after the prompt and the
      right tokens before them, 0 to 1.
    - `number_token_accuracy`: the same among the number tokens; left out if there are none.
    - `loss/ce`: cross-entropy in nats per token, which ranks even models whose texts are all bad.

    NOTE: the paper's evaluation compares generated tokens with the answer's, place by place: one
    word more or less makes all that follow wrong.
    """
    is_number = subject.tokenizer.number_values().isfinite().to(subject.device)
    tokens = numbers = right = right_numbers = 0
    nats = 0.0
    for part in teacher_forced(subject, examples, batch_size):
        hit = part.logits[:, : subject.model.vocab_size].argmax(-1) == part.labels
        number = is_number[part.labels]
        tokens += len(hit)
        right += int(hit.sum())
        numbers += int(number.sum())
        right_numbers += int((hit & number).sum())
        nats += float(F.cross_entropy(part.logits, part.labels, reduction="sum"))
    scores = {}
    if tokens:
        scores = {"token_accuracy": right / tokens, "loss/ce": nats / tokens}
    if numbers:
        scores["number_token_accuracy"] = right_numbers / numbers
    return scores
