"""What NTL adds to cross-entropy in training: table ntl-runtime, and the peers in its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from beyond_ce.benchmarks.ntl_loss import package_loss, torch_ce
from beyond_ce.losses import Loss, LossOutput
from beyond_ce.reproduction.measurement import measure_table
from beyond_ce.reproduction.measurements import loss_runtime


class _FromLogits(Loss):
    """Another library's loss as a `Loss`; it needs all logits at once."""

    target = "tokens"

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self, logits: Tensor, labels: Tensor, counts: Mapping[str, Tensor] | None = None
    ) -> LossOutput:
        return LossOutput(self.loss(logits, labels), {})  # a mean over the batch, without `counts`

    def counts(self, labels: Tensor) -> dict[str, Tensor]:
        return {"tokens": (labels >= 0).sum()}


class TorchCrossEntropy(_FromLogits):
    """torch.nn.functional.cross_entropy."""

    def __init__(self, number_values: Tensor) -> None:
        super().__init__(torch_ce)


class PackageWasserstein(_FromLogits):
    """torch's cross-entropy + 0.3 x NTL-WAS of the authors' package `ntloss`."""

    def __init__(self, number_values: Tensor) -> None:
        super().__init__(package_loss(False, len(number_values)))


def main(args: list[str]) -> dict[str, Any]:
    """Measure without writing a table; returns row -> metric -> mean and interval over repeats."""
    return measure_table("ntl-runtime", "ntl_runtime", args, loss_runtime.__doc__)
