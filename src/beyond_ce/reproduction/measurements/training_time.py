"""What multi-token prediction costs in training: a step with n heads compared with a step with one.

The number of parameters does not depend on n: the heads take layers from the trunk. What a model
with n heads computes in addition is n - 1 unembeddings, a smaller share of a larger model. The
ratio of operations is given too, as the lower limit for any implementation.

A step is forward and backward, head by head, and the optimizer. In a repeat all n of a size take
turns in random order and the median over the iterations counts; ratios are formed within a repeat.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig
from torch.optim import Optimizer

from beyond_ce.configuration import build
from beyond_ce.profiling import Step, in_turns
from beyond_ce.reproduction.measurement import RowByRow
from beyond_ce.reproduction.measurements.random_models import (
    decoder_flops,
    decoders_sharing_parameters,
    random_batch,
)
from beyond_ce.training.objective import Objective

Report = dict[str, Any]


class TrainingTime(RowByRow):
    """The measurement behind table mtp-s5.

    Args:
        batch: [B, T] of a step.
        vocabulary: V.
        heads: the n to compare, 1 among them.
        iterations: steps with each n in a repeat.
    """

    def __init__(
        self, batch: Sequence[int], vocabulary: int, heads: Sequence[int], iterations: int
    ) -> None:
        self.batch = tuple(batch)
        self.vocabulary = vocabulary
        self.heads = heads
        self.iterations = iterations

    def measure(self, config: DictConfig, repeat: int) -> Report:
        fabric = build(config.trainer, "trainer").fabric
        fabric.seed_everything(repeat, verbose=False)
        steps, parameters = self._steps(fabric, config)
        draw = random.Random(repeat)
        in_turns(steps, 1, draw, fabric.device)  # warm-up
        seconds = in_turns(steps, self.iterations, draw, fabric.device)
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        flops = {f"n{n}": decoder_flops(config, n, self.vocabulary, self.batch) for n in self.heads}
        return {
            "metrics": {
                "time/n1_milliseconds": 1e3 * medians["n1"],
                **{f"time/{name}": time / medians["n1"] for name, time in medians.items()},
                **{f"time/{name}_flops": count / flops["n1"] for name, count in flops.items()},
            },
            "parameters": parameters,
            "steps": self.iterations,
            "samples": self.iterations * self.batch[0],
            "wall_clock_s": sum(map(sum, seconds.values())),
            "threads": torch.get_num_threads(),
        }

    def _steps(self, fabric: Fabric, config: DictConfig) -> tuple[dict[str, Step], int]:
        """A training step for each n, with the same parameters, and the number of parameters."""
        with fabric.init_module():
            models = decoders_sharing_parameters(config, self.heads, self.vocabulary)
        batch = random_batch(self.batch, self.vocabulary).to(fabric.device)
        loss = build(config.loss, "loss", number_values=torch.full((self.vocabulary,), torch.nan))
        modules = {
            f"n{n}": fabric.setup_module(Objective(model, loss)) for n, model in models.items()
        }
        first = models[self.heads[0]]
        optimizer = cast(
            Optimizer, fabric.setup_optimizers(build(config.optimizer, "optimizer")(first))
        )

        def step(module: Any) -> None:
            total, _ = module(batch)
            fabric.backward(total)
            optimizer.step()
            optimizer.zero_grad()

        steps: dict[str, Step] = {name: partial(step, module) for name, module in modules.items()}
        return steps, sum(p.numel() for p in first.parameters())
