"""Scores solutions in steps by the result that follows their last marker, as GSM8K is scored."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from beyond_ce.data.gsm8k import MARKER
from beyond_ce.data.numbers import CURRENCY, ascii_minus
from beyond_ce.evaluation.evaluator import AnswerEvaluator, Evaluation, Subject
from beyond_ce.evaluation.number_answers import read_numbers, reference_scores, score
from beyond_ce.settings import FLAG, takes

if TYPE_CHECKING:
    import datasets

# What may stand before a number: "#### $18", "#### \\boxed{-18}".
_BEFORE = rf"(?:\\boxed\{{|{CURRENCY})*"
_NUMBER = re.compile(
    rf"\s*{_BEFORE}\s*([+-]?){_BEFORE}([0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)",
)


class FinalAnswer(AnswerEvaluator):
    """Compares the number after the last `####` (`final_number`) with the answer's, not the steps.

    The metrics are those of `score`; `accuracy` compares exact decimals. A text without a final
    number is `invalid`: wrong in `accuracy`, and left out of the distances. `no_marker` is the
    share of texts without any `####`, most often because they were cut at `max_new_tokens`.

    NOTE: the NTL paper's evaluation takes the last number of the text, marker or not. A text that
    was cut would then be scored by a number in one of its steps.

    Args:
        reference: also score as the NTL paper's code does (see `reference_scores`).
        settings: as for `AnswerEvaluator`.
    """

    @takes("evaluator", reference=FLAG)
    def __init__(self, *, reference: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.reference = reference

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        answers = self.answers(subject, examples)
        predictions = read_numbers(answers, final_number)
        predictions["no_marker"] = [MARKER not in text for text in predictions["prediction"]]
        no_marker = {"no_marker": float(predictions["no_marker"].mean())}
        metrics = score(predictions) | no_marker
        if self.reference:
            metrics |= reference_scores(answers)
        return Evaluation(metrics, predictions)


def final_number(text: str) -> str | None:
    """The number right after the last `####`, without thousands separators: "#### 1,080 eggs" gives
    "1080" and "#### -$18" gives "-18"; None where there is no marker or something else follows."""
    _, marker, rest = text.rpartition(MARKER)
    match = _NUMBER.match(ascii_minus(rest)) if marker else None
    return match[1] + match[2].replace(",", "") if match else None
