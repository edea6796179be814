"""Several evaluators as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hydra.utils import get_object

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import Evaluation, Evaluator, Subject

if TYPE_CHECKING:
    import datasets


class Evaluators(Evaluator):
    """Runs several evaluators; returns all their metrics, and the predictions of the first.

    Args:
        evaluators: by name, in the order to run them; any names will do.
        settings: not used. The evaluators' own settings refer to these in the configuration, so
            that `evaluator.batch_size=8` means the same as for a single evaluator.
    """

    def __init__(self, evaluators: Mapping[str, Evaluator], **settings: Any) -> None:
        if not evaluators:
            raise UsageError("evaluator.evaluators is empty: name at least one")
        self.evaluators = dict(evaluators)

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        parts = config["evaluators"].values()
        columns = [get_object(part["_target_"]).reads(part) for part in parts]
        return tuple(dict.fromkeys(column for part in columns for column in part))

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
        return Evaluation(metrics, results[0].predictions)
