"""Whitespace at the end of prompts: does a model use the additional positions as pause tokens?

Source: MTP paper, appendix K, table S11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from beyond_ce.data.programs.problem import Problem
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.code_samples import CodeSamples
from beyond_ce.evaluation.evaluator import Evaluation, Subject
from beyond_ce.settings import takes

if TYPE_CHECKING:
    import datasets

MEAN = "mean"


def _texts(value: Any) -> str | None:
    """Texts of spaces and newlines by name."""
    if not isinstance(value, Mapping):
        return "give texts of spaces and newlines by name"
    for name, text in value.items():
        if name == MEAN or not isinstance(text, str) or not text.isspace():
            return f"{name}={text!r}: give spaces and newlines, with a name other than {MEAN}"
    return None


class WhitespaceSamples(CodeSamples):
    """`CodeSamples` on the problems as they are, and with whitespace after every prompt.

    All metrics of `CodeSamples`, and of each whitespace `w`:

    - `pass@1@t0.2@w` and so on: every metric of `CodeSamples` with this whitespace.
    - `pass@1_points@w`: 100 x (`pass@1@oracle@w` - `pass@1@oracle`), for every k.
    - `pass@1_points@mean`: the mean of these differences over the whitespaces.

    With the name `mbpp` they are `mbpp/pass@1@t0.2@w` and so on, and `pass@1_points@mbpp_w`.

    A problem's samples with and without whitespace are drawn from the same random numbers.

    NOTE: the paper says neither how much whitespace it adds nor where. Here it follows the prompt,
    in front of the program's first line.

    Args:
        whitespace: name -> text of spaces and newlines.
        settings: of `CodeSamples`.
    """

    @takes("evaluator", whitespace=_texts)
    def __init__(self, whitespace: Mapping[str, str], **settings: Any) -> None:
        super().__init__(**settings)
        if not whitespace:
            raise UsageError("evaluator.whitespace is empty: name at least one")
        self.whitespace = dict(whitespace)

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """As `CodeSamples`; predictions have the column `whitespace`, "" for none."""
        problems = self._problems(examples)
        plain = self._evaluate(subject, problems)
        metrics = dict(plain.metrics)
        frames = [plain.predictions.assign(whitespace="")]
        for name, text in self.whitespace.items():
            found = self._evaluate(subject, [_ending(problem, text) for problem in problems])
            metrics |= {f"{metric}@{name}": value for metric, value in found.metrics.items()}
            frames.append(found.predictions.assign(whitespace=name))
        of_benchmark, in_label = (
            ("", "") if self.name is None else (f"{self.name}/", f"{self.name}_")
        )
        for k in self.ks:
            metric = f"{of_benchmark}pass@{k}@oracle"
            gains = {
                name: 100 * (metrics[f"{metric}@{name}"] - metrics[metric])
                for name in self.whitespace
            }
            gains[MEAN] = sum(gains.values()) / len(gains)
            metrics |= {f"pass@{k}_points@{in_label}{name}": gain for name, gain in gains.items()}
        return Evaluation(metrics, pd.concat(frames, ignore_index=True))


def _ending(problem: Problem, text: str) -> Problem:
    """The problem with a text after its prompt; also in the program, if that has the prompt."""
    prefix = problem.prefix + text if problem.prefix else ""
    return replace(problem, prompt=problem.prompt + text, prefix=prefix)
