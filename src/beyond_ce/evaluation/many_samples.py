"""The base class of evaluators that draw many samples of each problem and estimate pass@k."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import Evaluator
from beyond_ce.evaluation.pass_at_k import Estimate, over_temperatures, pass_at_k_each
from beyond_ce.evaluation.sampling import Sampling
from beyond_ce.settings import COUNT, NO_LIMIT, SEED, TEXT, each, number, optional, takes


class ManySamples(Evaluator):
    """Settings of sampling, and the metrics of samples that were judged (see `_metrics`).

    Args:
        temperatures, samples, max_new_tokens, top_p, seed, batch_size: see `Sampling`.
        ks: of pass@k, at most as many as samples.
        max_examples: only so many problems, spread evenly; None for all.
        name: of the benchmark, where one evaluator has several (see `Evaluators`); None for none.
    """

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
        self.batch_size, self.max_examples, self.name = batch_size, max_examples, name

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

    def _metrics(
        self,
        frame: pd.DataFrame,
        right: pd.Series,
        names: Sequence[str],
        shares: pd.DataFrame,
        counts: dict[str, float],
    ) -> dict[str, float]:
        """The metrics of all samples.

        For each k, mean over the problems; `@low` and `@high` are the ends of its 90% bootstrap
        interval over problems:

        - `pass@1@t0.2`: pass@1 at temperature 0.2; at temperature 0 pass@k is pass@1 for any k.
        - `pass@1@oracle`: at the temperature that is best for this k, `best_temperature@pass@1`.
        - `pass@1@held_out`: each half of the problems at the temperature that is best for the
          other half (see `OverTemperatures`).

        And at each temperature:

        - `<column>@t0.2`: mean of a column of `shares`, which has a line per sample too.
        - `finished@t0.2`: share of samples that were not cut off by their length.
        - `distinct@t0.2`: share of samples with a completion of their own: distinct ones / samples,
          mean over problems.

        Args:
            frame: that of `draw_samples`.
            right: whether each sample is.
            names: of the problems, in their order.
            counts: further metrics.
        """
        metrics = {**self._estimates(frame, right, names), **_shares(frame, shares), **counts}
        head = "" if self.name is None else f"{self.name}/"
        return {f"{head}{key}": value for key, value in metrics.items()}

    def _estimates(
        self, frame: pd.DataFrame, right: pd.Series, names: Sequence[str]
    ) -> dict[str, float]:
        """Everything about pass@k."""
        by_problem = right.groupby([frame["problem"], frame["temperature"]])
        table = by_problem.sum().unstack().loc[list(names)]
        metrics: dict[str, float] = {}
        for k in self.ks:
            columns = [
                pass_at_k_each(self.samples, table[t], k) if t else table[t] * 1.0
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


def _with_ends(name: str, estimate: Estimate) -> dict[str, float]:
    return {
        name: estimate.value,
        f"{name}@low": estimate.low,
        f"{name}@high": estimate.high,
    }


def _shares(frame: pd.DataFrame, shares: pd.DataFrame) -> dict[str, float]:
    """The metrics of each temperature besides pass@k."""
    metrics: dict[str, float] = {}
    for t, rows in frame.groupby("temperature"):
        here = (frame["temperature"] == t).to_numpy()
        for column in shares:
            metrics[f"{column}@t{t:g}"] = float(shares[column].to_numpy()[here].mean())
        metrics[f"finished@t{t:g}"] = float(rows["finished"].mean())
        by_problem = rows.groupby("problem")["completion"]
        metrics[f"distinct@t{t:g}"] = float((by_problem.nunique() / by_problem.size()).mean())
    return metrics


@contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    """The folder, or one that does not stay."""
    if folder is not None:
        yield folder
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
