"""Which checkpoint of a run is scored on the test splits, if it is not the last or the one with the
lowest validation loss.

With a choice of the group `selection`, the trainer keeps the weights of every evaluation. They are
scored on the validation split when training is over, and the best of them on the test splits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from beyond_ce.errors import UsageError
from beyond_ce.settings import TEXT, takes

_STEP = re.compile(r"step-(\d+)\.ckpt")


class ByMetric:
    """Chooses the checkpoint with the best value of a metric, the first of equal ones.

    Source: MTP paper, section 3.7, for ROUGE-L.

    Args:
        metric: of the run's evaluator, on the validation split; the higher the better.
    """

    @takes("selection", metric=TEXT)
    def __init__(self, metric: str) -> None:
        self.metric = metric

    def choose(self, scores: Mapping[int, Mapping[str, float]]) -> int:
        """The best step.

        Args:
            scores: step -> the evaluator's metrics.

        Raises:
            UsageError: the evaluator does not give the metric.
        """
        for values in scores.values():
            if self.metric not in values:
                raise UsageError(
                    f"selection.metric={self.metric}: the evaluator gives "
                    f"{', '.join(sorted(values))}: choose one of these"
                )
        return max(scores, key=lambda step: (scores[step][self.metric], -step))


def kept_checkpoints(folder: Path) -> dict[int, Path]:
    """Step -> checkpoint that the trainer has kept in a run's folder, in the order of the steps."""
    found = {}
    for path in folder.glob("step-*.ckpt"):
        if match := _STEP.fullmatch(path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))
