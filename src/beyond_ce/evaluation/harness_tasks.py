"""Choices and short answers: benchmarks of EleutherAI's lm-evaluation-harness, scored by it.

Source: MTP paper, figures 5 and S12.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from beyond_ce.data.questions import SHOTS, Questions
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import Evaluation, Evaluator, Subject
from beyond_ce.evaluation.likelihood import check_head
from beyond_ce.settings import COUNT, NO_LIMIT, SEED, TEXT, each, takes

if TYPE_CHECKING:
    import datasets
    from omegaconf import DictConfig

_STDERR = "_stderr"
_BOOTSTRAPS = 1000  # for standard errors of metrics that are no means


class HarnessTasks(Evaluator):
    """Runs tasks of lm-evaluation-harness, which makes the prompts and scores what the model says.

    All metrics that the harness gives for a task, such as `hellaswag/acc`, the share of questions
    where the right choice is the likeliest, and `hellaswag/acc_norm`, where it is per character;
    `nq_open/exact_match`. `@stderr` is a metric's standard error over the questions. Besides:

    - `hellaswag/questions`: how many there were; `hellaswag/chance`: `acc` of guessing, expected.
    - `choices/acc` and `choices/chance`: means over the tasks with choices, each counting once, and
      `choices/acc@stderr`.
    - `truncated`: share of requests whose context lost its beginning, as it was too long.

    Args:
        tasks: the harness's names of tasks or of groups, such as mmlu.
        shots: the number of examples in front of each question, by task; 0 for others.
        data: where the questions come from; has the same tasks and shots.
        batch_size: requests answered together; changes speed and memory only.
        max_new_tokens: longest generated answer, where a task does not say.
        max_examples: at most about so many questions of each task, spread evenly, also over MMLU's
            subjects; None for all.
        head: the head that predicts the choices, 1 for that of the next token (see `likelihoods`).
        seed: of the examples in front of the questions.
    """

    columns = ()

    @takes(
        "evaluator",
        tasks=each(TEXT),
        shots=SHOTS,
        batch_size=COUNT,
        max_new_tokens=COUNT,
        max_examples=NO_LIMIT,
        head=COUNT,
        seed=SEED,
    )
    def __init__(
        self,
        tasks: Sequence[str],
        shots: Mapping[str, int],
        data: Questions,
        batch_size: int,
        max_new_tokens: int,
        max_examples: int | None = None,
        head: int = 1,
        seed: int = 1234,
    ) -> None:
        asked = {task: shots.get(task, 0) for task in tasks}
        if data.shots != asked:
            raise UsageError(
                "evaluator.data has other tasks or shots than the evaluator: set evaluator.tasks "
                "and evaluator.shots only"
            )
        self.tasks, self.shots, self.data = list(tasks), dict(shots), data
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens
        self.max_examples, self.head, self.seed = max_examples, head, seed

    @classmethod
    def pass_on(cls, config: DictConfig, before: DictConfig) -> DictConfig:
        """In a saved config, `data` no longer refers to the evaluator's tasks."""
        passed_on = config.copy()
        for key in ("tasks", "shots"):
            if config[key] != before.get(key):
                passed_on.data[key] = config[key]
        return passed_on

    def environment(self) -> dict[str, str]:
        try:
            return {"lm_eval": metadata.version("lm-eval")}
        except metadata.PackageNotFoundError:
            return {}

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Scores the tasks; `examples` do not matter.

        Predictions have a line per question: task (of MMLU, its subject), number, what is right,
        the model's responses as JSON (log-likelihood and whether it is greedy, of each choice; or
        the generated answer), and the score.

        Raises:
            UsageError: the harness is not installed, has no such task, or the model does not fit.
            RunError: questions cannot be loaded.
        """
        check_head(subject.model, self.head)
        try:
            from lm_eval.evaluator import evaluate

            from beyond_ce.evaluation.harness_loading import load_tasks, quiet
            from beyond_ce.evaluation.harness_model import HarnessModel
        except ModuleNotFoundError as error:
            raise UsageError(
                f"this evaluator needs lm-evaluation-harness, and there is no {error.name}: "
                "pip install 'beyond-ce[harness]', or `make install` again"
            ) from error
        model = HarnessModel(subject, self.batch_size, self.max_new_tokens, self.head)
        with quiet():
            tasks, asked = load_tasks(self.data, self.max_examples, self.seed)
            results = evaluate(model, tasks, samples=asked, bootstrap_iters=_BOOTSTRAPS)
        members = {name: _members(name, results["group_subtasks"]) for name in results["results"]}
        samples = {name: results["samples"][name] for name in tasks["tasks"]}
        metrics: dict[str, float] = {}
        for name in self._names(results):
            rows = [row for member in members[name] for row in samples[member]]
            metrics |= _metrics(name, results["results"][name], rows)
        metrics |= _over_choices(metrics, self._names(results))
        count = sum(len(row["arguments"]) for rows in samples.values() for row in rows)
        metrics["truncated"] = model.truncated / count
        return Evaluation(metrics, _predictions(samples))

    def _names(self, results: Mapping[str, Any]) -> list[str]:
        """The tasks and groups that were asked for; of a tag, which is neither, its tasks."""
        known = results["results"]
        inside = {name for names in results["group_subtasks"].values() for name in names}
        others = [name for name in known if name not in inside and name not in self.tasks]
        named = [name for name in self.tasks if name in known]
        return named if len(named) == len(self.tasks) else [*named, *others]


def _members(name: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks of a group, those of its own groups included; a task alone is its only one."""
    parts = groups.get(name) or []
    return [task for part in parts for task in _members(part, groups)] if parts else [name]


def _metrics(name: str, values: Mapping[str, Any], rows: list[dict[str, Any]]) -> dict[str, float]:
    """The harness's metrics of a task, whose names there end in that of the filter before it.

    If two filters give a metric, such as strict and lenient ones, the filter is part of its name.
    """
    keys = [key for key in values if "," in key and _is_number(values[key])]
    plain = [key.partition(",")[0] for key in keys]
    found = {}
    for key, metric in zip(keys, plain, strict=True):
        full = metric if plain.count(metric) == 1 else key.replace(",", "@")
        if _STDERR in full:
            full = full.replace(_STDERR, "") + "@stderr"
        found[f"{name}/{full}"] = float(values[key])
    found[f"{name}/questions"] = float(len(rows))
    if rows and all("acc" in row and len(row["filtered_resps"]) > 1 for row in rows):
        found[f"{name}/chance"] = float(np.mean([1 / len(row["filtered_resps"]) for row in rows]))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _over_choices(metrics: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Means over the tasks with choices, with a standard error as of independent tasks."""
    tasks = [name for name in names if f"{name}/chance" in metrics]
    if not tasks:
        return {}
    errors = [metrics.get(f"{name}/acc@stderr", 0.0) for name in tasks]
    return {
        "choices/acc": float(np.mean([metrics[f"{name}/acc"] for name in tasks])),
        "choices/acc@stderr": float(np.sqrt(np.sum(np.square(errors))) / len(tasks)),
        "choices/chance": float(np.mean([metrics[f"{name}/chance"] for name in tasks])),
    }


def _predictions(samples: Mapping[str, Sequence[dict[str, Any]]]) -> pd.DataFrame:
    columns = ("task", "question", "target", "responses", "score")
    return pd.DataFrame(list(_lines(samples)), columns=list(columns))


def _lines(samples: Mapping[str, Sequence[dict[str, Any]]]) -> Iterator[tuple[Any, ...]]:
    for name, rows in samples.items():
        for row in rows:
            values = [row[metric] for metric in row["metrics"] if _is_number(row.get(metric))]
            yield (
                name,
                int(row["doc_id"]),
                str(row["target"]),
                json.dumps(row["filtered_resps"]),
                float(values[0]) if values else float("nan"),
            )
