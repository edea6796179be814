"""Several evaluators as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import Evaluation

if TYPE_CHECKING:
    import datasets
    import torch

    from beyond_ce.models.base import LanguageModel
    from beyond_ce.tokenizers.base import Tokenizer


class Evaluators:
    """Runs several evaluators; their metrics together, and the predictions of the first.

    Args:
        evaluators: under any names, in order.
        settings: not used. The evaluators' own settings refer to these in the configuration, so
            that `evaluator.batch_size=8` means the same as for a single evaluator.
    """

    def __init__(self, evaluators: Mapping[str, Any], **settings: Any) -> None:
        if not evaluators:
            raise UsageError("evaluator.evaluators is empty: name at least one")
        self.evaluators = dict(evaluators)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(column for each in self.evaluators.values() for column in each.columns)

    def __call__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        examples: datasets.Dataset,
        device: torch.device | str,
    ) -> Evaluation:
        """Raises:
        UsageError: two evaluators give a metric of one name.
        """
        found = [each(model, tokenizer, examples, device) for each in self.evaluators.values()]
        metrics: dict[str, float] = {}
        for name, each in zip(self.evaluators, found, strict=True):
            if clash := sorted(metrics.keys() & each.metrics.keys()):
                raise UsageError(
                    f"evaluator.evaluators.{name} gives the metric '{clash[0]}', as one before it "
                    "does: leave one of the two out"
                )
            metrics |= each.metrics
        return Evaluation(metrics, found[0].predictions)
