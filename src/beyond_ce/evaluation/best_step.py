"""A metric's best value during training: early stopping that keeps no checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import datasets

from beyond_ce.evaluation.probe import PREFIX, TrainingProbe
from beyond_ce.settings import COUNT, TEXT, takes

if TYPE_CHECKING:
    from beyond_ce.evaluation.evaluator import Evaluation, Subject

_CHOICE = "validation"
_SPLIT = "probed_split"


class BestStep(TrainingProbe):
    """Tracks a metric of the run's own evaluator on validation and test splits, and reports it at
    the best step, in two ways:

    - `<split>/<metric>@oracle`: where it is best on the test split itself, as in the MTP paper's
      section 4.1, which flatters. `<split>/step@oracle` is that step.
    - `<split>/<metric>@held_out`: where it is best on the validation split, and
      `<split>/step@held_out`.

    Among equal ones the first step counts. A metric that is not defined at any step is left out.

    Args:
        every: optimizer steps between two probes; the last step is always probed.
        metric: of the evaluator; the higher the better.
    """

    @takes("probe", every=COUNT, metric=TEXT)
    def __init__(self, every: int, metric: str) -> None:
        self.every = every
        self.metric = metric

    def sample(
        self, splits: Mapping[str, datasets.Dataset], test_splits: Sequence[str]
    ) -> datasets.Dataset:
        """All examples of validation and of the test splits, with a column that says which."""
        parts = [
            splits[split].add_column(_SPLIT, [split] * len(splits[split]))
            for split in (_CHOICE, *test_splits)
        ]
        return datasets.concatenate_datasets(parts)

    def measure(
        self,
        evaluator: Callable[[Subject, datasets.Dataset], Evaluation],
        subject: Subject,
        examples: datasets.Dataset,
    ) -> dict[str, float]:
        """`probe/<metric>@<split>` of every split where the evaluator gives the metric."""
        names = examples[_SPLIT]
        metrics = {}
        for split in dict.fromkeys(names):
            rows = [i for i, name in enumerate(names) if name == split]
            found = evaluator(subject, examples.select(rows)).metrics
            if self.metric in found:
                metrics[f"{PREFIX}{self.metric}@{split}"] = found[self.metric]
        return metrics

    def summary(
        self, records: Iterable[Mapping[str, Any]], tasks: Iterable[str], steps_per_epoch: float
    ) -> dict[str, float]:
        start = f"{PREFIX}{self.metric}@"
        curves: dict[str, dict[int, float]] = {}
        for record in records:
            for name, value in record.items():
                if name.startswith(start):
                    curves.setdefault(name.removeprefix(start), {})[record["step"]] = value
        chosen = curves.pop(_CHOICE, {})
        metrics = {}
        for split, curve in curves.items():
            for way, choice in (("oracle", curve), ("held_out", chosen)):
                known = [step for step in choice if step in curve]
                if known:
                    step = max(known, key=lambda step: (choice[step], -step))
                    metrics[f"{split}/{self.metric}@{way}"] = curve[step]
                    metrics[f"{split}/step@{way}"] = float(step)
        return metrics
