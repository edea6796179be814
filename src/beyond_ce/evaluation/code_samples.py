"""pass@k of the programs that a model writes, run in a sandbox.

Source: MTP paper, tables 1, S4, S6, S7 and S12, figure 4.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd

from beyond_ce.data.programs.base import HasProblems
from beyond_ce.data.programs.problem import MEMORY_MB, TIME_LIMIT_S, Problem
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.code_execution import isolation, run_all, unsupported
from beyond_ce.evaluation.code_execution.verdict import Kind
from beyond_ce.evaluation.evaluator import (
    Evaluation,
    Evaluator,
    Subject,
    check_predicts_tokens,
    spread,
)
from beyond_ce.evaluation.pass_at_k import Estimate, over_temperatures, pass_at_k_each
from beyond_ce.evaluation.sampling import Sampling, draw_samples
from beyond_ce.settings import COUNT, NO_LIMIT, SEED, TEXT, each, number, optional, takes, whole
from beyond_ce.storage.shards import Shards

if TYPE_CHECKING:
    import datasets

_VERDICTS_AT_ONCE = 500  # kept together; a killed job repeats so many programs at most


class CodeSamples(Evaluator):
    """Samples programs for every problem, runs them by its tests, and estimates pass@k.

    Problems are those of `data`, or those in the examples, which have them in the column
    `problem`. A problem whose tests cannot be run here is left out and counted. Programs that come
    several times run once. Samples and verdicts are kept in `Subject.folder`, so that a killed
    evaluation goes on; the samples stay there.

    For each k, mean over the problems; `@low` and `@high` are the ends of its 90% bootstrap
    interval over problems:

    - `pass@1@t0.2`: pass@1 at temperature 0.2; at temperature 0 pass@k is pass@1 for any k.
    - `pass@1@oracle`: at the temperature that is best for this k, `best_temperature@pass@1`.
    - `pass@1@held_out`: each half of the problems at the temperature that is best for the other
      half (see `OverTemperatures`).

    And at each temperature:

    - `passed@t0.2`, `failed@t0.2`, `timeout@t0.2`, `memory@t0.2` and `crashed@t0.2`: share of
      samples by verdict.
    - `finished@t0.2`: share of samples that were not cut off by their length.
    - `distinct@t0.2`: share of samples with a program of their own: distinct programs / samples,
      mean over problems.

    And `problems`, `distinct_programs`, which were run, and `unsupported_problems`.

    With the name `mbpp` they are `mbpp/pass@1@t0.2` and so on.

    Args:
        temperatures, samples, max_new_tokens, top_p, seed, batch_size: see `Sampling`.
        ks: of pass@k, at most as many as samples.
        max_examples: only so many problems, spread evenly; None for all.
        timeout_s, memory_mb: limits of a program whose tests call functions; others have their own.
        workers: sandboxes that work at once; None for one per processor.
        data: a data set with problems of its own, whichever the run's data set is; None for the
            examples.
        split: of `data`.
        name: of the benchmark, where one evaluator has several (see `Evaluators`); None for none.
    """

    columns = ("problem",)

    @takes(
        "evaluator",
        temperatures=each(number(0, 100)),
        samples=COUNT,
        ks=each(COUNT),
        max_new_tokens=COUNT,
        top_p=number(above=0, high=1),
        seed=SEED,
        batch_size=COUNT,
        max_examples=NO_LIMIT,
        timeout_s=number(above=0, high=86_400),
        memory_mb=whole(1, 2**20),
        workers=NO_LIMIT,
        split=TEXT,
        name=optional(TEXT),
    )
    def __init__(
        self,
        temperatures: Sequence[float],
        samples: int,
        ks: Sequence[int],
        max_new_tokens: int,
        top_p: float = 1.0,
        seed: int = 0,
        batch_size: int = 256,
        max_examples: int | None = None,
        timeout_s: float = TIME_LIMIT_S,
        memory_mb: int = MEMORY_MB,
        workers: int | None = None,
        data: HasProblems | None = None,
        split: str = "test",
        name: str | None = None,
    ) -> None:
        if max(ks) > samples:
            raise UsageError(
                f"evaluator.ks={list(ks)} needs at least {max(ks)} samples: raise "
                f"evaluator.samples={samples}, or leave out the larger k"
            )
        if len({f"{t:g}" for t in temperatures}) < len(temperatures):  # as the metrics name them
            raise UsageError(
                f"evaluator.temperatures={list(temperatures)} has one twice: give each once"
            )
        self.temperatures, self.samples, self.ks = list(temperatures), samples, list(ks)
        self.max_new_tokens, self.top_p, self.seed = max_new_tokens, top_p, seed
        self.batch_size, self.max_examples = batch_size, max_examples
        self.timeout_s, self.memory_mb, self.workers = timeout_s, memory_mb, workers
        self.data, self.split, self.name = data, split, name

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            self.temperatures,
            self.samples,
            self.max_new_tokens,
            self.top_p,
            self.seed,
            self.batch_size,
        )

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        return cls.columns if config.get("data") is None else ()

    def environment(self) -> dict[str, str]:
        return {"isolation": isolation().name}

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
        with _kept(subject.folder) as folder:
            frame = draw_samples(subject, problems, self.sampling, folder / "samples")
            frame = self._judge(frame, {problem.id: problem for problem in problems}, folder)
        metrics = {
            **self._estimates(frame, [problem.id for problem in problems]),
            **_shares(frame),
            "problems": float(len(problems)),
            "unsupported_problems": float(len(every) - len(problems)),
            "distinct_programs": float(len(frame[["problem", "completion"]].drop_duplicates())),
        }
        head = "" if self.name is None else f"{self.name}/"
        return Evaluation({f"{head}{key}": value for key, value in metrics.items()}, frame)

    def _problems(self, examples: datasets.Dataset) -> list[Problem]:
        if self.data is not None:
            problems = self.data.problems(self.split)
        else:
            # Of several rows of a problem only the first has its tests.
            problems = [Problem.from_json(text) for text in examples["problem"] if text]
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
        shards = _verdicts(folder / "verdicts" / _digest([self.timeout_s, self.memory_mb])[:12])
        kept = {row["program"]: row for row in shards.read().to_pylist()}
        missing = [key for key in jobs if key not in kept]
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
                kept |= {row["program"]: row for row in done}
                done = []
        kept |= {row["program"]: row for row in done}
        # The predictions have them from now on.
        shutil.rmtree(folder / "verdicts", ignore_errors=True)
        return frame.assign(**{c: [kept[key][c] for key in keys] for c in ("verdict", "reason")})

    def _estimates(self, frame: pd.DataFrame, names: list[str]) -> dict[str, float]:
        """Everything about pass@k."""
        passed = (frame["verdict"] == "passed").groupby([frame["problem"], frame["temperature"]])
        right = passed.sum().unstack().loc[names]
        metrics: dict[str, float] = {}
        for k in self.ks:
            columns = [
                pass_at_k_each(self.samples, right[t], k) if t else right[t] * 1.0
                for t in self.temperatures
            ]
            found = over_temperatures(np.stack(columns, axis=1), self.temperatures)
            name = f"pass@{k}"
            for t, estimate in found.at.items():
                metrics |= _with_ends(f"{name}@t{t:g}", estimate)
            metrics |= _with_ends(f"{name}@oracle", found.oracle)
            metrics[f"best_temperature@{name}"] = float(found.best)
            if found.held_out is not None:
                metrics |= _with_ends(f"{name}@held_out", found.held_out)
        return metrics


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    """The folder, or one that does not stay."""
    if folder is not None:
        yield folder
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)


def _with_ends(name: str, estimate: Estimate) -> dict[str, float]:
    return {
        name: estimate.value,
        f"{name}@low": estimate.low,
        f"{name}@high": estimate.high,
    }


def _shares(frame: pd.DataFrame) -> dict[str, float]:
    """The metrics of each temperature besides pass@k."""
    metrics: dict[str, float] = {}
    for t, rows in frame.groupby("temperature"):
        for kind in get_args(Kind):
            metrics[f"{kind}@t{t:g}"] = float((rows["verdict"] == kind).mean())
        metrics[f"finished@t{t:g}"] = float(rows["finished"].mean())
        by_problem = rows.groupby("problem")["completion"]
        metrics[f"distinct@t{t:g}"] = float((by_problem.nunique() / by_problem.size()).mean())
    return metrics


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _verdicts(folder: Path) -> Shards:
    import pyarrow as pa

    return Shards(folder, {name: pa.string() for name in ("program", "verdict", "reason")})
