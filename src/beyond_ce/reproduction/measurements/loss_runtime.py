"""What NTL adds to cross-entropy in training: to the loss, the forward pass, the training step.

loss     forward and backward from given logits [B, T, V];
forward  the T5 and the loss without gradients, as in validation;
step     the T5 and the loss forward and backward, then the optimizer, as in training: the loss
         starts from hidden states where its class can.

Half the labels are digits. In a repeat the losses take turns in random order, on one model and one
optimizer, and the median over the iterations counts. Ratios are formed within a repeat, so a
machine that slows down slows numerator and denominator.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from lightning_fabric import Fabric
from omegaconf import DictConfig
from torch import Tensor
from torch.optim import Optimizer

from beyond_ce.batches.batch import Batch
from beyond_ce.configuration import build
from beyond_ce.losses import Loss
from beyond_ce.models import LanguageModel
from beyond_ce.profiling import Step, in_turns
from beyond_ce.reproduction.measurements.random_models import digit_values, random_labels
from beyond_ce.training.objective import Objective

Report = dict[str, Any]


class Runtime:
    """The measurement behind table ntl-runtime.

    Args:
        logits: [B, T] of the logits in part `loss`.
        batch: [B, T] of the T5's batch, prompt and answer of T tokens each.
        vocabulary: V, the columns of all logits.
        iterations: runs of each loss in a repeat.
        ratios: name of a metric -> the row whose time is its denominator.
    """

    def __init__(
        self,
        logits: Sequence[int],
        batch: Sequence[int],
        vocabulary: int,
        iterations: int,
        ratios: Mapping[str, str],
    ) -> None:
        self.logits = tuple(logits)
        self.batch = tuple(batch)
        self.vocabulary = vocabulary
        self.iterations = iterations
        self.ratios = ratios

    def __call__(
        self, configs: Mapping[str, DictConfig], repeats: Sequence[int]
    ) -> Iterator[tuple[int, dict[str, Report]]]:
        """Measures the loss of each row's config; yields (repeat, row -> report) as they come.

        Model, head, optimizer and trainer are those of the first row. A row whose loss needs a
        package that is not installed has no metrics.
        """
        config = next(iter(configs.values()))
        fabric = build(config.trainer, "trainer").fabric
        fabric.seed_everything(0, verbose=False)
        sizes = {"vocab_size": self.vocabulary, "pad_id": 0, "eos_id": 1}
        head = build(config.head, "head")
        model: LanguageModel = build(config.model, "model", **sizes, head=head)
        parts = self._parts(fabric, config, model, configs)
        self._repeat(parts, 1, random.Random(), fabric.device)  # warm-up
        for repeat in repeats:
            draw = random.Random(repeat)
            seconds = self._repeat(parts, self.iterations, draw, fabric.device)
            yield (
                repeat,
                {
                    row: {
                        "metrics": self._metrics(seconds, row),
                        "parameters": sum(p.numel() for p in model.parameters()),
                        "steps": self.iterations,
                        "samples": self.iterations * self.batch[0],
                        "wall_clock_s": sum(sum(rows.get(row, ())) for rows in seconds.values()),
                        "threads": torch.get_num_threads(),
                    }
                    for row in configs
                },
            )

    def _parts(
        self,
        fabric: Fabric,
        config: DictConfig,
        model: LanguageModel,
        configs: Mapping[str, DictConfig],
    ) -> dict[str, dict[str, Step]]:
        """Part -> row -> one run of it."""
        values = digit_values(self.vocabulary)
        losses = {row: _loss(row_config.loss, values) for row, row_config in configs.items()}
        modules = {
            row: fabric.setup_module(Objective(model, loss))
            for row, loss in losses.items()
            if loss is not None
        }
        first = next(iter(modules.values()))
        optimizer = cast(
            Optimizer, fabric.setup_optimizers(build(config.optimizer, "optimizer")(first))
        )
        half = "bf16" in config.trainer.precision
        logits = torch.randn(
            *self.logits,
            self.vocabulary,
            device=fabric.device,
            dtype=torch.bfloat16 if half else torch.float32,
            requires_grad=True,
        )
        labels = random_labels(self.logits, self.vocabulary).to(fabric.device)
        ids = random_labels(self.batch, self.vocabulary)
        mask = torch.ones_like(ids, dtype=torch.bool)
        batch = Batch(ids, mask, labels=ids, decoder_input_ids=ids.roll(1, 1)).to(fabric.device)

        def alone(module: Any) -> None:
            with fabric.autocast():
                total = module.module.loss(logits, labels).total
            total.backward()
            logits.grad = None

        @torch.no_grad()
        def forward(module: Any) -> None:
            module(batch)

        def step(module: Any) -> None:
            total, _ = module(batch)
            fabric.backward(total)
            optimizer.step()
            optimizer.zero_grad()

        return {
            name: {row: partial(run, module) for row, module in modules.items()}
            for name, run in (("loss", alone), ("forward", forward), ("step", step))
        }

    def _repeat(
        self,
        parts: dict[str, dict[str, Step]],
        iterations: int,
        draw: random.Random,
        device: torch.device,
    ) -> dict[str, dict[str, list[float]]]:
        """Part -> row -> seconds of each iteration."""
        return {part: in_turns(rows, iterations, draw, device) for part, rows in parts.items()}

    def _metrics(self, seconds: dict[str, dict[str, list[float]]], row: str) -> dict[str, float]:
        metrics = {}
        for part, rows in seconds.items():
            if row not in rows:
                continue
            medians = {label: statistics.median(times) for label, times in rows.items()}
            metrics[f"{part}/milliseconds"] = 1e3 * medians[row]
            metrics |= {
                f"{part}/{name}": medians[row] / medians[reference]
                for name, reference in self.ratios.items()
                if reference in medians
            }
        return metrics


def _loss(node: DictConfig, number_values: Tensor) -> Loss | None:
    try:
        return build(node, "loss", number_values=number_values)
    except InstantiationException as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            return None
        raise
