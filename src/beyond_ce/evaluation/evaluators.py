"""Several evaluators as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from hydra.utils import get_object

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import Evaluation, Evaluator, Subject

if TYPE_CHECKING:
    import datasets
    from omegaconf import DictConfig


class Evaluators(Evaluator):
    """Runs several evaluators; returns all their metrics, and the predictions of the first with
    those of others of the same kind, as of several benchmarks.

    A setting beside `evaluators`, such as `evaluator.batch_size=8`, is that of every part that has
    one of this name. conf/ writes the parts' settings as references to the shared ones. In a saved
    config the references are resolved, so `pass_on` passes a changed setting on to the parts.

    Args:
        evaluators: by name, in the order to run them; any names will do.
        settings: the shared settings. A part keeps its settings as attributes of the same name.

    Raises:
        UsageError: a shared setting is not that of a part, or no part has it.
    """

    def __init__(self, evaluators: Mapping[str, Evaluator], **settings: Any) -> None:
        if not evaluators:
            raise UsageError("evaluator.evaluators is empty: name at least one")
        for key, shared in settings.items():
            parts = {name: part for name, part in evaluators.items() if hasattr(part, key)}
            if not parts:
                raise UsageError(
                    f"evaluator.{key}={shared} is a setting of none of {', '.join(evaluators)}: "
                    "leave it out"
                )
            for name, part in parts.items():
                if not _equal(shared, own := getattr(part, key)):
                    raise UsageError(
                        f"evaluator.{key}={shared} and evaluator.evaluators.{name}.{key}={own} "
                        f"contradict each other: set evaluator.{key} only"
                    )
        self.evaluators = dict(evaluators)

    @classmethod
    def pass_on(cls, config: DictConfig, before: DictConfig) -> DictConfig:
        passed_on = config.copy()
        parts = passed_on.get("evaluators") or {}
        for key in set(config) - {"_target_", "evaluators"}:
            if config[key] == before.get(key):
                continue
            for name, part in parts.items():
                # A part whose own setting was changed as well keeps it; building refuses the two.
                if key in part and part[key] == before.evaluators[name][key]:
                    part[key] = config[key]
        return passed_on

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        parts = config["evaluators"].values()
        columns = [get_object(part["_target_"]).reads(part) for part in parts]
        return tuple(dict.fromkeys(column for part in columns for column in part))

    def environment(self) -> dict[str, str]:
        return {k: v for part in self.evaluators.values() for k, v in part.environment().items()}

    def tidy(self, folder: Path) -> None:
        for part in self.evaluators.values():
            part.tidy(folder)

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Raises:
        UsageError: two evaluators give a metric of the same name.
        """
        results = [evaluator(subject, examples) for evaluator in self.evaluators.values()]
        metrics: dict[str, float] = {}
        for name, part in zip(self.evaluators, results, strict=True):
            if clash := sorted(metrics.keys() & part.metrics.keys()):
                raise UsageError(
                    f"evaluator.evaluators.{name} gives the metric '{clash[0]}', and so does one "
                    "before it: leave out one of the two"
                )
            metrics |= part.metrics
        columns = list(results[0].predictions)
        alike = [r.predictions for r in results if list(r.predictions) == columns]
        return Evaluation(metrics, pd.concat(alike, ignore_index=True))


def _equal(shared: Any, own: Any) -> bool:
    """Whether two settings are the same, lists and tuples of the same values included."""
    if isinstance(shared, Sequence) and isinstance(own, Sequence):
        return list(shared) == list(own)
    return bool(shared == own)
