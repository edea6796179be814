"""What multi-token prediction costs in training: a step with n heads beside a step with one.

Parameters do not depend on n, and the heads are layers that the trunk gives up: what an ordinary
model does not have to compute is n - 1 unembeddings, which weigh less the larger the model is.
Beside the time stands the ratio of operations, the least that any implementation can reach.

A step is forward and backward, head by head, and the optimizer. Every repeat runs all n of a size
turn by turn in random order and takes each one's median over the iterations; ratios are formed
within a repeat.
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
    decoders_of_one,
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
        in_turns(steps, 1, draw, fabric.device)  # warms up
        seconds = in_turns(steps, self.iterations, draw, fabric.device)
        medians = {name: statistics.median(each) for name, each in seconds.items()}
        flops = {f"n{n}": decoder_flops(config, n, self.vocabulary, self.batch) for n in self.heads}
        return {
            "metrics": {
                "time/n1_milliseconds": 1e3 * medians["n1"],
                **{f"time/{name}": each / medians["n1"] for name, each in medians.items()},
                **{f"time/{name}_flops": each / flops["n1"] for name, each in flops.items()},
            },
            "parameters": parameters,
            "steps": self.iterations,
            "samples": self.iterations * self.batch[0],
            "wall_clock_s": sum(map(sum, seconds.values())),
            "threads": torch.get_num_threads(),
        }

    def _steps(self, fabric: Fabric, config: DictConfig) -> tuple[dict[str, Step], int]:
        """A training step with each n, all on one set of parameters, and how many there are."""
        with fabric.init_module():
            models = decoders_of_one(config, self.heads, self.vocabulary)
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
        return steps, sum(each.numel() for each in first.parameters())
