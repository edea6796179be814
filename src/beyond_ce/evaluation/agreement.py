"""Answers of an article and a word that it must agree with, as of `beyond_ce.data.Agreement`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beyond_ce.evaluation.evaluator import AnswerEvaluator, Evaluation, Subject

if TYPE_CHECKING:
    import datasets


class AgreementAnswers(AnswerEvaluator):
    """Scores the article, which comes first, and the word after it.

    - `article_accuracy`: share of the answers whose first letter is right;
    - `word_accuracy`: share whose other letters are;
    - `accuracy`: share that are right as a whole.

    Args:
        settings: as for `AnswerEvaluator`.
    """

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Predictions hold, for each example, the answer generated and its verdicts."""
        table = self.answers(subject, examples)
        given, right = table["prediction"].str, table["answer"].str
        table["article_is_right"] = given[:1] == right[:1]
        table["word_is_right"] = given[1:] == right[1:]
        metrics = {
            "article_accuracy": float(table["article_is_right"].mean()),
            "word_accuracy": float(table["word_is_right"].mean()),
            "accuracy": float((table["article_is_right"] & table["word_is_right"]).mean()),
        }
        return Evaluation(metrics, table)
