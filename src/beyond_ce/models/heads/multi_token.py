"""n heads that predict the next n tokens at once (MTP paper, section 2 and appendix B).

The trunk's output z goes through a block per head, one shared norm and an unembedding:

    P(x_{t+i} | x_{<=t}) = softmax(W norm(f_i(z_t)))

f_i is either a transformer layer, taken from the end of the trunk so that the number of parameters
is the ordinary model's, or a linear map. In the causal and anticausal architectures a head's block
reads the output of a neighbouring head's block.

Shapes: B examples, T positions, D hidden size, V vocabulary, n heads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beyond_ce.errors import UsageError
from beyond_ce.models.heads.base import Head
from beyond_ce.settings import (
    NO_LIMIT,
    WEIGHT,
    Rule,
    each,
    in_one_form,
    optional,
    takes,
    whole,
    with_form,
)


def _weights(value: Any) -> str | None:
    """A list of weights, of which one is positive."""
    advice = each(WEIGHT)(value)
    return "make one of them positive" if advice is None and not any(value) else advice


with_form(_weights, partial(in_one_form, each(WEIGHT)))
LOSS_WEIGHTS: Rule = optional(_weights)


class MultiTokenHead(Head):
    """n heads side by side on the trunk's output: the paper's own architecture, "parallel".

    Args:
        dim: hidden size D.
        vocab_size: V.
        n: number of future tokens.
        block: builds the heads' blocks from `n` and `dim`.
        unembedding: builds the unembedding from `n`, `dim` and `vocab_size`.
        extra_layers: layers added to the trunk. With 0 the number of parameters does not depend on
            n; n - 1 makes up for all layers that heads 2 to n take.
        loss_weights: weight of each head in the total loss; null for ones.
        draft_vocabulary: in decoding, heads 2 to n guess among so many tokens only, the most
            frequent ones in training: an unembedding of fewer rows is read sooner, and what is
            accepted is head 1's to say (FR-Spec, Zhao et al., 2025, arXiv 2502.14856). Their losses
            and logits are over all tokens, whatever this is. None for all; this setting is not in
            `conf/`: add it, such as `+head.draft_vocabulary=8192`.

    Raises:
        UsageError: a number is out of range.
    """

    token_counts: Tensor | None
    """How often each token was a label in training, [V]; None where `draft_vocabulary` is."""

    @takes(
        "head",
        n=whole(1, 1000),
        extra_layers=whole(0, 1000),
        loss_weights=LOSS_WEIGHTS,
        draft_vocabulary=NO_LIMIT,
    )
    def __init__(
        self,
        dim: int,
        vocab_size: int,
        n: int,
        block: Callable[..., Blocks],
        unembedding: Callable[..., Unembedding],
        extra_layers: int = 0,
        loss_weights: Sequence[float] | None = None,
        draft_vocabulary: int | None = None,
    ) -> None:
        super().__init__()
        weights = [1.0] * n if loss_weights is None else [float(weight) for weight in loss_weights]
        if len(weights) != n or min(weights) < 0:
            raise UsageError(
                f"head.loss_weights={list(weights)}: give {n} weights, one per head, none negative"
            )
        self.n = n
        self.extra_layers = extra_layers
        self.loss_weights = tuple(weights)
        self.blocks = block(n=n, dim=dim)
        self.norm: nn.Module = nn.Identity()
        self.unembeddings = unembedding(n=n, dim=dim, vocab_size=vocab_size)
        self.draft_vocabulary = draft_vocabulary
        counts = None if draft_vocabulary is None else torch.zeros(vocab_size, dtype=torch.long)
        self.register_buffer("token_counts", counts)

    def take_layers(self, layers: nn.ModuleList, norm: nn.Module) -> nn.Module:
        """Moves the final norm, and the last trunk layers if the blocks are layers, into the head.

        Returns:
            The trunk's new final norm, an identity: the norm now follows the blocks.

        Raises:
            UsageError: the trunk has too few layers.
        """
        self.blocks.take_layers(layers)
        self.norm = norm
        return nn.Identity()

    def further_parameters(self) -> list[nn.Parameter]:
        """What heads 2 to n have for themselves, without what the next token is predicted with."""
        own = {id(self.unembedding()), *map(id, self.norm.parameters())}
        for offset in self.path(0):
            own |= set(map(id, self.blocks[offset].parameters()))
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    @torch.no_grad()
    def count(self, labels: Tensor) -> None:
        if self.token_counts is not None:
            known = labels.flatten()
            self.token_counts.index_add_(0, known.clamp(min=0), (known >= 0).long())

    def draft_ids(self, vocab_size: int) -> Tensor | None:
        """The tokens to draft, in ascending order; None for all.

        Args:
            vocab_size: tokens to choose from, without padded columns.
        """
        counts, size = self.token_counts, self.draft_vocabulary
        if counts is None or size is None or size >= vocab_size:
            return None
        order = counts[:vocab_size].argsort(descending=True, stable=True)
        return order[:size].sort().values

    def source(self, offset: int) -> int | None:
        return None

    def advance(self, hidden: Tensor, offset: int) -> Tensor:
        return self.blocks(hidden, offset)

    def output(self, state: Tensor) -> Tensor:
        return self.norm(state)

    def logits(self, hidden: Tensor, offset: int = 0) -> Tensor:
        return F.linear(self.features(hidden, offset), self.unembedding(offset))

    def unembedding(self, offset: int = 0) -> nn.Parameter:
        if not 0 <= offset < self.n:
            raise IndexError(f"the head predicts {self.n} token(s), not offset {offset}")
        return self.unembeddings.matrix(offset)

    def share(self, unembedding: nn.Parameter) -> None:
        self.unembeddings.share(unembedding)


class CausalMultiTokenHead(MultiTokenHead):
    """Head i reads head i - 1: f_i(f_{i-1}(..f_1(z))), so later tokens depend on earlier ones.

    Source: MTP paper, appendix B, "causal".
    """

    def source(self, offset: int) -> int | None:
        return offset - 1 if offset else None


class AnticausalMultiTokenHead(MultiTokenHead):
    """Head i reads head i + 1: the furthest token comes first, and the next token uses all blocks.

    Source: MTP paper, appendix B, "anticausal".
    """

    def source(self, offset: int) -> int | None:
        return offset + 1 if offset + 1 < self.n else None


class Blocks(nn.ModuleList, ABC):
    """The blocks f_1 .. f_n of the heads: block `offset` maps [B, T, D] to [B, T, D]."""

    from_trunk: ClassVar[bool]
    """Whether they are layers taken from the trunk (see `LanguageModel.provides_layers`)."""

    taken: int = 0
    """How many layers they take."""

    needed: int = 0
    """How many of them an ordinary model with one head would not have."""

    def __init__(self, n: int, dim: int) -> None:
        super().__init__()
        self.n = n

    @abstractmethod
    def take_layers(self, layers: nn.ModuleList) -> None:
        """Moves the layers that it needs from the end of the trunk's `layers` into this list."""

    @abstractmethod
    def forward(self, hidden: Tensor, offset: int) -> Tensor: ...

    @abstractmethod
    def copy_first(self) -> None:
        """Makes further blocks side by side compute what the first does, in place."""


class TransformerBlocks(Blocks):
    """Each block is a transformer layer from the trunk.

    Head 1 takes the last layer of the ordinary model, and heads 2 to n take one more trunk layer
    each, so the number of parameters does not depend on n. Without heads 2 to n this is an ordinary
    model.
    """

    from_trunk = True

    def __init__(self, n: int, dim: int) -> None:
        super().__init__(n, dim)
        self.taken, self.needed = n, n - 1

    def take_layers(self, layers: nn.ModuleList) -> None:
        if len(layers) < self.n:
            raise UsageError(
                f"head.n={self.n} takes {self.n} of the model's {len(layers)} layers: "
                "raise model.num_layers or head.extra_layers, or lower head.n"
            )
        first = len(layers) - self.n
        self.extend(layers[first:])
        del layers[first:]

    def forward(self, hidden: Tensor, offset: int) -> Tensor:
        return self[offset](hidden)

    def copy_first(self) -> None:
        for block in list(self)[1:]:
            block.load_state_dict(self[0].state_dict())


class LinearBlocks(Blocks):
    """Heads 2 to n have linear maps D x D without bias; head 1 is the ordinary model's.

    NOTE: the paper does not say what happens to head 1 and the trunk. Here head 1 gets no map, so
    this too is an ordinary model without the other heads. The trunk keeps all layers, because a map
    has only a twelfth of a layer's parameters.
    """

    from_trunk = False

    def __init__(self, n: int, dim: int) -> None:
        super().__init__(n, dim)
        self.append(nn.Identity())
        for _ in range(n - 1):
            linear = nn.Linear(dim, dim, bias=False)
            nn.init.normal_(linear.weight, std=dim**-0.5)
            self.append(linear)

    def take_layers(self, layers: nn.ModuleList) -> None:
        """Takes none."""

    def forward(self, hidden: Tensor, offset: int) -> Tensor:
        # Autocast multiplies in half precision. Cast back, so the norm gets the trunk's precision
        # as in all other heads.
        return self[offset](hidden).to(hidden.dtype)

    def copy_first(self) -> None:
        for linear in list(self)[1:]:
            nn.init.eye_(cast(nn.Linear, linear).weight)


class Unembedding(nn.Module, ABC):
    """The heads' unembedding: one shared matrix, or one per head."""

    def __init__(self, count: int, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(vocab_size, dim)) for _ in range(count)
        )
        for weight in self.weights:
            nn.init.normal_(weight, std=dim**-0.5)

    @abstractmethod
    def matrix(self, offset: int) -> nn.Parameter:
        """The matrix [V, D] of the head at `offset`."""

    @abstractmethod
    def share(self, unembedding: nn.Parameter) -> None:
        """Uses this matrix [V, D] for head 1, and as the other heads' matrix or initial value."""


class SharedUnembedding(Unembedding):
    """One matrix for all heads."""

    def __init__(self, n: int, dim: int, vocab_size: int) -> None:
        super().__init__(1, dim, vocab_size)

    def matrix(self, offset: int) -> nn.Parameter:
        return self.weights[0]

    def share(self, unembedding: nn.Parameter) -> None:
        self.weights[0] = unembedding


class ReplicatedUnembedding(Unembedding):
    """A matrix for each head (MTP paper, appendix B; its byte-level models)."""

    def __init__(self, n: int, dim: int, vocab_size: int) -> None:
        super().__init__(n, dim, vocab_size)

    def matrix(self, offset: int) -> nn.Parameter:
        return self.weights[offset]

    def share(self, unembedding: nn.Parameter) -> None:
        self.weights[0] = unembedding
        for weight in list(self.weights)[1:]:
            with torch.no_grad():
                weight.copy_(unembedding)
