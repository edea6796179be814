"""Sample efficiency: how many epochs it takes until a task's error is small."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.metrics import DISTANCES
from beyond_ce.settings import COUNT, TEXT, each, number, optional, takes

if TYPE_CHECKING:
    from beyond_ce.evaluation.evaluator import Evaluation, Subject

PREFIX = "probe/"


class TrainingProbe(ABC):
    """Measures with the run's own evaluator during training; `conf/probe/` names such classes.

    Attributes:
        every: optimizer steps between two probes; the last step is always probed.
    """

    every: int

    @abstractmethod
    def sample(
        self, splits: Mapping[str, datasets.Dataset], test_splits: Sequence[str]
    ) -> datasets.Dataset:
        """The examples for `measure`, from the data set's splits."""

    @abstractmethod
    def measure(
        self,
        evaluator: Callable[[Subject, datasets.Dataset], Evaluation],
        subject: Subject,
        examples: datasets.Dataset,
    ) -> dict[str, float]:
        """What metrics.jsonl gets: names that begin with `PREFIX`. Draws no random numbers from
        the generators of training, and leaves the model as it is."""

    @abstractmethod
    def summary(
        self, records: Iterable[Mapping[str, Any]], tasks: Iterable[str], steps_per_epoch: float
    ) -> dict[str, float]:
        """Metrics of a whole training run, from the lines of metrics.jsonl in the order of their
        steps.

        Args:
            tasks: of the sample.
            steps_per_epoch: optimizer steps that see as many examples as the training split has.
        """


class Probe(TrainingProbe):
    """Tracks a metric of every task during training, and reports when it fell below thresholds.

    The run's own evaluator generates and scores the answers, so a task's probes and its final
    metric differ only in which examples are used.

    Args:
        every: optimizer steps between two probes; the last step is always probed.
        metric: one of `metrics.DISTANCES`, the lower the better.
        thresholds: in the metric's unit.
        splits: test splits to sample from, None for all of them.
        examples_per_task: at most so many, spread evenly over the task's examples, and the same at
            every probe and in every run.
    """

    @takes(
        "probe",
        every=COUNT,
        metric=TEXT,
        thresholds=each(number(above=0)),
        splits=optional(each(TEXT)),
        examples_per_task=COUNT,
    )
    def __init__(
        self,
        every: int,
        metric: str,
        thresholds: Sequence[float],
        splits: Sequence[str] | None,
        examples_per_task: int,
    ) -> None:
        if metric not in DISTANCES:
            # Otherwise it would look like a metric that is never defined: no task would be learned.
            raise UsageError(f"probe.metric={metric}: choose one of {', '.join(DISTANCES)}")
        self.every = every
        self.metric = metric
        self.thresholds = list(thresholds)
        self.splits = splits
        self.examples_per_task = examples_per_task

    def sample(
        self, splits: Mapping[str, datasets.Dataset], test_splits: Sequence[str]
    ) -> datasets.Dataset:
        """The examples to answer (columns prompt, answer, task), from all splits together.

        Raises:
            UsageError: a split does not exist.
        """
        wanted = test_splits if self.splits is None else self.splits
        unknown = [split for split in wanted if split not in splits]
        if unknown:
            raise UsageError(
                f"probe.splits: there is no split '{unknown[0]}'; known: {', '.join(splits)}"
            )
        examples = datasets.concatenate_datasets([splits[split] for split in wanted])
        tasks = np.array(examples["task"])
        rows = []
        for task in dict.fromkeys(tasks.tolist()):
            of_task = np.flatnonzero(tasks == task)
            count = min(len(of_task), self.examples_per_task)
            rows.append(of_task[np.linspace(0, len(of_task) - 1, count).round().astype(int)])
        return examples.select(np.concatenate(rows))

    def measure(
        self,
        evaluator: Callable[[Subject, datasets.Dataset], Evaluation],
        subject: Subject,
        examples: datasets.Dataset,
    ) -> dict[str, float]:
        """`probe/<metric>@<task>` of every task whose answers all hold a number.

        The other tasks are left out: distances ignore answers without a number, so a model that
        hardly ever gives one could seem to be close.
        """
        scores = evaluator(subject, examples).metrics
        tasks = sorted(set(examples["task"]))
        metrics = {}
        for task in tasks:
            # Evaluators give metrics per task only if there are several.
            suffix = f"@{task}" if len(tasks) > 1 else ""
            if f"{self.metric}{suffix}" in scores and not scores.get(f"invalid{suffix}"):
                metrics[f"{PREFIX}{self.metric}@{task}"] = scores[f"{self.metric}{suffix}"]
        return metrics

    def summary(
        self, records: Iterable[Mapping[str, Any]], tasks: Iterable[str], steps_per_epoch: float
    ) -> dict[str, float]:
        """Metrics of a whole training run, for each threshold.

        - `probe/epochs_to_<threshold>@<task>`: epoch of the first probe with the metric below the
          threshold, even if it rises again: the paper's "epochs until". Missing for a task that
          never gets there.
        - `probe/reached_<threshold>`: share of tasks that get there.
        - `probe/mean_epochs_to_<threshold>`: mean over all tasks. A task that does not get there
          counts with the epoch of the last probe, so this is a lower bound unless the share is 1.

        `tasks` has all tasks of the sample, even if their metric was never defined.
        """
        start = f"{PREFIX}{self.metric}@"
        curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
        epoch = 0.0
        for record in records:
            epoch = record["step"] / steps_per_epoch
            for name, value in record.items():
                if name.startswith(start):
                    curves[name.removeprefix(start)].append((epoch, value))
        last = epoch  # of training, and so of the last probe
        names = sorted(set(tasks))
        metrics: dict[str, float] = {}
        for threshold in self.thresholds:
            epochs = {
                task: next((epoch for epoch, value in curves[task] if value < threshold), None)
                for task in names
            }
            reached = {task: epoch for task, epoch in epochs.items() if epoch is not None}
            bounds = [*reached.values(), *[last] * (len(names) - len(reached))]
            until = f"epochs_to_{threshold:g}"
            metrics |= {f"{PREFIX}{until}@{task}": epoch for task, epoch in reached.items()}
            metrics[f"{PREFIX}mean_{until}"] = sum(bounds) / len(names)
            metrics[f"{PREFIX}reached_{threshold:g}"] = len(reached) / len(names)
        return metrics
