"""pass@k of the programs that a model writes, run in a sandbox.

Source: MTP paper, tables 1, S4, S6, S7 and S12, figure 4.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd

from beyond_ce.data.programs.base import HasProblems
from beyond_ce.data.programs.problem import MEMORY_MB, TIME_LIMIT_S, Problem
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.code_execution import isolation, run_all, unsupported
from beyond_ce.evaluation.code_execution.verdict import Kind
from beyond_ce.evaluation.evaluator import (
    Evaluation,
    Subject,
    check_predicts_tokens,
    spread,
)
from beyond_ce.evaluation.many_samples import ManySamples, kept
from beyond_ce.evaluation.sampling import draw_samples
from beyond_ce.settings import NO_LIMIT, TEXT, number, takes, whole
from beyond_ce.storage.shards import Shards

if TYPE_CHECKING:
    import datasets

_VERDICTS = "verdicts"
_VERDICTS_AT_ONCE = 500  # kept together; a killed job repeats so many programs at most


class CodeSamples(ManySamples):
    """Samples programs for every problem, runs them by its tests, and estimates pass@k.

    Problems are those of `data`, or those in the examples, which have them in the column
    `problem`. A problem whose tests cannot be run here is left out and counted. Programs that come
    several times run once. Samples and verdicts are kept in `Subject.folder`, so that a killed
    evaluation goes on; the samples stay there.

    Metrics are those of `ManySamples`, and of its shares at each temperature `passed@t0.2`,
    `failed@t0.2`, `timeout@t0.2`, `memory@t0.2` and `crashed@t0.2`, by verdict. And `problems`,
    `distinct_programs`, which were run, and `unsupported_problems`.

    With the name `mbpp` they are `mbpp/pass@1@t0.2` and so on.

    Args:
        timeout_s, memory_mb: limits of a program whose tests call functions; others have their own.
        workers: sandboxes that work at once; None for one per processor.
        data: a data set with problems of its own, whichever the run's data set is; None for the
            examples.
        split: of `data`.
        settings: as for `ManySamples`.
    """

    columns = ("problem",)

    @takes(
        "evaluator",
        timeout_s=number(above=0, high=86_400),
        memory_mb=whole(1, 2**20),
        workers=NO_LIMIT,
        split=TEXT,
    )
    def __init__(
        self,
        *,
        timeout_s: float = TIME_LIMIT_S,
        memory_mb: int = MEMORY_MB,
        workers: int | None = None,
        data: HasProblems | None = None,
        split: str = "test",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.timeout_s, self.memory_mb, self.workers = timeout_s, memory_mb, workers
        self.data, self.split = data, split

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        return cls.columns if config.get("data") is None else ()

    def environment(self) -> dict[str, str]:
        return {"isolation": isolation().name}

    def tidy(self, folder: Path) -> None:
        shutil.rmtree(folder / _VERDICTS, ignore_errors=True)

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Samples and judges programs for the problems in the examples, or for those of `data`.

        Predictions have a line per sample: problem, temperature, sample, completion, finished (see
        `draw_samples`), verdict and reason.

        Raises:
            UsageError: there are no problems, there is no sandbox, or the model cannot continue
                the prompts.
            RunError: a file with samples is damaged, or the sandbox does not start.
        """
        return self._evaluate(subject, self._problems(examples))

    def _evaluate(self, subject: Subject, every: Sequence[Problem]) -> Evaluation:
        check_predicts_tokens(subject.model)
        isolation()  # before samples are drawn in vain
        problems = [problem for problem in every if unsupported(problem.tests) is None]
        if not problems:
            raise UsageError(
                "there are no problems that can be judged: choose a data set of programs, such as "
                "dataset=code_tasks, or evaluator=humaneval"
            )
        with kept(subject.folder) as folder:
            frame = draw_samples(subject, problems, self.sampling, folder / "samples")
            frame = self._judge(frame, {problem.id: problem for problem in problems}, folder)
        counts = {
            "problems": float(len(problems)),
            "unsupported_problems": float(len(every) - len(problems)),
            "distinct_programs": float(len(frame[["problem", "completion"]].drop_duplicates())),
        }
        verdicts = pd.DataFrame({kind: frame["verdict"] == kind for kind in get_args(Kind)})
        names = [problem.id for problem in problems]
        return Evaluation(self._metrics(frame, verdicts["passed"], names, verdicts, counts), frame)

    def _problems(self, examples: datasets.Dataset) -> list[Problem]:
        if self.data is not None:
            problems = self.data.problems(self.split)
        else:
            # Of several rows of a problem only the first has its tests.
            problems = [Problem.from_json(text) for text in examples["problem"] if text]
        if repeated := [name for name, n in Counter(p.id for p in problems).items() if n > 1]:
            raise UsageError(
                f"problem {repeated[0]} is there twice: keep one file of the problems, not also a "
                "copy or a compressed one"
            )
        return [problems[i] for i in spread(len(problems), self.max_examples)]

    def _judge(
        self, frame: pd.DataFrame, problems: Mapping[str, Problem], folder: Path
    ) -> pd.DataFrame:
        """The samples with the columns verdict and reason."""
        tests = {name: _digest(asdict(problem.tests)) for name, problem in problems.items()}
        pairs = list(zip(frame["problem"], frame["completion"], strict=True))
        keys = [_digest([tests[name], problems[name].prefix + text]) for name, text in pairs]
        jobs = {
            key: (problems[name].prefix + text, problems[name].tests)
            for key, (name, text) in zip(keys, pairs, strict=True)
        }
        shards = _verdicts(folder / _VERDICTS / _digest([self.timeout_s, self.memory_mb])[:12])
        known = {row["program"]: row for row in shards.read().to_pylist()}
        missing = [key for key in jobs if key not in known]
        done: list[dict[str, str]] = []
        verdicts = run_all(
            [jobs[key] for key in missing],
            self.workers,
            timeout_s=self.timeout_s,
            memory_mb=self.memory_mb,
        )
        for place, verdict in verdicts:
            row = {"verdict": verdict.verdict, "reason": verdict.reason}
            done.append({"program": missing[place], **row})
            if len(done) == _VERDICTS_AT_ONCE:
                shards.append(done)
                known |= {row["program"]: row for row in done}
                done = []
        known |= {row["program"]: row for row in done}
        return frame.assign(**{c: [known[key][c] for key in keys] for c in ("verdict", "reason")})


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _verdicts(folder: Path) -> Shards:
    import pyarrow as pa

    return Shards(folder, {name: pa.string() for name in ("program", "verdict", "reason")})
