"""Training heads 2 to n on a model that stays as it is.

Shapes: B sequences, T positions, D hidden size (twice that for a head that reads tokens).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from beyond_ce.errors import UsageError
from beyond_ce.models.base import DTYPES, LanguageModel
from beyond_ce.models.heads import MultiTokenHead
from beyond_ce.settings import FLAG, one_of, optional, takes
from beyond_ce.training.objective import Objective

if TYPE_CHECKING:
    from beyond_ce.batches.batch import Batch
    from beyond_ce.losses.base import Loss


class FurtherHeads(Objective):
    """The losses of heads 2 to n, with gradients for what these heads have for themselves alone.

    The trunk, head 1 and a shared unembedding keep their weights to the last bit. The trunk runs
    forward once per batch, in inference mode and without dropout. Head 1's loss is computed in
    validation, as a term that does not count.

    Args:
        copy_head_1: start the further heads as copies of head 1, which learn much sooner than
            random ones; False to keep what they start with.
        trunk_precision: float32 or bfloat16, of the products in the trunk; None for those of
            `trainer.precision`.

    Raises:
        UsageError: the model has one head, its further heads are a part of head 1, or their layers
            were taken from in front of head 1.
    """

    first_trained = 1

    @takes("objective", copy_head_1=FLAG, trunk_precision=optional(one_of(*DTYPES)))
    def __init__(
        self,
        model: LanguageModel,
        loss: Loss,
        copy_head_1: bool,
        trunk_precision: str | None = None,
    ) -> None:
        super().__init__(model, loss)
        self.copy_head_1 = copy_head_1
        self.trunk_precision = trunk_precision
        head = model.head
        if not isinstance(head, MultiTokenHead) or head.n == 1:
            raise UsageError(
                "objective=further_heads trains heads 2 to n, and the model has one: "
                "choose head=multi_token with head.n=4, or leave out objective="
            )
        trained = head.further_parameters()
        if head.path(0) != [0] or not trained:
            raise UsageError(
                f"objective=further_heads leaves nothing to train in {type(head).__name__}, whose "
                "further heads are a part of head 1: choose head=multi_token"
            )
        if head.extra_layers < head.blocks.needed:
            raise UsageError(
                f"head.extra_layers={head.extra_layers}: heads 2 to {head.n} would take layers "
                f"from the model that stays as it is: set head.extra_layers={head.blocks.needed}"
            )
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)
        self.train()  # a trainer may not say so before its first validation

    def started(self) -> None:
        if self.copy_head_1:
            assert isinstance(self.model.head, MultiTokenHead)
            self.model.head.blocks.copy_first()

    def train(self, mode: bool = True) -> FurtherHeads:
        super().train(mode)
        self.model.eval()  # the trunk predicts as it will in decoding; blocks have no other mode
        return self

    def hidden(self, batch: Batch) -> Tensor:
        with torch.inference_mode(), self._precision(batch.input_ids.device.type):
            hidden = self.model.trunk(batch)
        return hidden.clone()  # outside of inference mode: a block keeps it for its backward pass

    def _precision(self, device: str) -> AbstractContextManager[object]:
        if self.trunk_precision is None:
            return nullcontext()
        dtype = DTYPES[self.trunk_precision]
        return torch.autocast(device, dtype, enabled=dtype is not torch.float32)
