"""pass@k of word problems that a model solves in steps after examples of others.

Source: MTP paper, figure S13, on GSM8K (Cobbe et al. 2021), whose grading is `result`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from beyond_ce.data.gsm8k import MARKER
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import (
    Evaluation,
    Subject,
    check_predicts_tokens,
    spread,
)
from beyond_ce.evaluation.many_samples import ManySamples, kept
from beyond_ce.evaluation.sampling import draw_samples
from beyond_ce.generation import longest_continuation
from beyond_ce.settings import takes, whole

if TYPE_CHECKING:
    import datasets

    from beyond_ce.data.base import PromptAnswerData

_RESULT = re.compile(rf"{MARKER} (-?[0-9.,]+)")
_QUESTION, _ANSWER = "Question: ", "\nAnswer: "


@dataclass(frozen=True)
class _Asked:
    """A problem after examples, and the right result."""

    id: str
    prompt: str
    result: str
    stop: tuple[str, ...] = (f"\n{_QUESTION}", "\n\n")


class WordProblems(ManySamples):
    """Samples solutions of every problem and compares their results with the right one.

    A prompt has the first problems of the training split with their solutions, each between
    "Question: " and an empty line, and then the problem. A solution ends in front of the next empty
    line or question, of which a model goes on to write one. Samples are kept in `Subject.folder`,
    so that a killed evaluation goes on.

    Metrics are those of `ManySamples`, and of its shares at each temperature `right@t0.2` and
    `answered@t0.2`, of samples with a result. And `problems`, and `no_room`, the share of problems
    whose prompt leaves less than `max_new_tokens` in the model's context.

    NOTE: the paper does not give its eight examples. These are from the training problems that are
    not held out for validation, in their order.

    Args:
        data: prompts that are problems, and answers that end in "#### N".
        shots: examples in front of every problem.
        settings: as for `ManySamples`.
    """

    columns = ()

    @takes("evaluator", shots=whole(0, 1000))
    def __init__(self, *, data: PromptAnswerData, shots: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.data, self.shots = data, shots

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        return ()

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Samples the problems of `data`; `examples` do not matter.

        Predictions have a line per sample: problem, temperature, sample, completion, finished (see
        `draw_samples`), result ("" for none) and right.

        Raises:
            UsageError: there are fewer training problems than shots, no prompt fits the model, or
                it does not predict tokens.
            RunError: a file with samples is damaged.
        """
        check_predicts_tokens(subject.model)
        asked = self._asked()
        room = self._room(subject, asked)
        with kept(subject.folder) as folder:
            frame = draw_samples(subject, asked, self.sampling, folder / "samples")
        known = {problem.id: problem.result for problem in asked}
        frame["result"] = [result(text) or "" for text in frame["completion"]]
        frame["right"] = frame["result"] == frame["problem"].map(known)
        shares = pd.DataFrame({"right": frame["right"], "answered": frame["result"] != ""})
        counts = {
            "problems": float(len(asked)),
            "no_room": sum(tokens < self.max_new_tokens for tokens in room) / len(asked),
        }
        metrics = self._metrics(frame, frame["right"], list(known), shares, counts)
        return Evaluation(metrics, frame)

    def _asked(self) -> list[_Asked]:
        splits = self.data.load()
        train, test = splits["train"], splits[self.data.test_splits[0]]
        if len(train) < self.shots:
            raise UsageError(
                f"evaluator.shots={self.shots}: there are only {len(train)} training problems to "
                "show: lower it"
            )
        shown = "".join(
            f"{_QUESTION}{row['prompt']}{_ANSWER}{row['answer']}\n\n"
            for row in train.select(range(self.shots))
        )
        asked = []
        for place in spread(len(test), self.max_examples):
            row = test[place]
            right = result(row["answer"])
            if right is None:
                raise UsageError(
                    f"dataset {self.data.name}: the answer of test problem {place} has no "
                    f"'{MARKER} N': choose dataset=gsm8k as evaluator.data"
                )
            prompt = f"{shown}{_QUESTION}{row['prompt']}{_ANSWER}".rstrip()
            asked.append(_Asked(f"{self.data.name}/{place}", prompt, right))
        return asked

    def _room(self, subject: Subject, asked: Sequence[_Asked]) -> list[int]:
        """How many tokens each solution may have.

        Raises:
            UsageError: no prompt fits the model.
        """
        prompts = subject.tokenizer.encode([problem.prompt for problem in asked])
        room = [
            longest_continuation(subject.model, [*subject.start, *prompt]) for prompt in prompts
        ]
        tokens = [self.max_new_tokens if each is None else max(0, each) for each in room]
        if not any(tokens):
            raise UsageError(
                f"evaluator.shots={self.shots}: no prompt fits the model's context of "
                f"{subject.model.max_length} tokens: show fewer examples"
            )
        return tokens


def result(solution: str) -> str | None:
    """What follows the first "#### ", without commas; None if that is no number.

    Two results are the same if their texts are, as in GSM8K's own grading: 18.0 is not 18.
    """
    match = _RESULT.search(solution)
    return match[1].replace(",", "") if match else None
