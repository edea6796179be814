"""One block that all further heads share, applied again and again to its own state and a token.

Source: DeepSeek-AI (2024), "DeepSeek-V3 Technical Report", section 2.2, whose modules are here one
for all offsets, as in Cai et al. (2025), "FastMTP" (arXiv 2509.18362). With z_t the trunk's output
and E(x) a token's embedding,

    h_t^0 = z_t,    h_t^i = layer(M [norm(h_t^{i-1}); norm(E(x_{t+i}))]),
    P(x_{t+1+i} | x_{<=t+i}) = softmax(W norm(h_t^i))

so head 1 is the ordinary model's, and every further head predicts one token more than the one
before from the token that stands there: in training the text's, in decoding the drafted one.

NOTE: DeepSeek-V3 gives a module a last norm of its own; here all heads share the trunk's, as in the
MTP paper.

Shapes: B examples, T positions, D hidden size, V vocabulary, n heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beyond_ce.errors import UsageError
from beyond_ce.models.heads.multi_token import LOSS_WEIGHTS, Blocks, MultiTokenHead, Unembedding
from beyond_ce.models.layers import DecoderLayer
from beyond_ce.settings import NO_LIMIT, number, takes, whole


class RecurrentMultiTokenHead(MultiTokenHead):
    """Heads 2 to n are one block, applied once, twice and so on.

    Args:
        dim: hidden size D.
        vocab_size: V.
        n: number of future tokens.
        unembedding: builds the unembedding from `n`, `dim` and `vocab_size`.
        extra_layers: layers added to the trunk. The block takes one, so that with 0 only the
            projection M and two norms are more than in the ordinary model.
        decay: the losses of heads 2, 3, .. have weights in the ratio 1, `decay`, `decay`^2, .. that
            sum to 1; that of head 1 has weight 1. FastMTP uses 0.6.
        loss_weights: weight of each head in the total loss, instead of those by `decay`.
        draft_vocabulary: as for `MultiTokenHead`.

    Raises:
        UsageError: a number is out of range.
    """

    reads_tokens = True
    takes_layers = True
    blocks: RecurrentBlocks

    @takes(
        "head",
        n=whole(1, 1000),
        extra_layers=whole(0, 1000),
        decay=number(above=0, high=1),
        loss_weights=LOSS_WEIGHTS,
        draft_vocabulary=NO_LIMIT,
    )
    def __init__(
        self,
        dim: int,
        vocab_size: int,
        n: int,
        unembedding: Callable[..., Unembedding],
        extra_layers: int = 0,
        decay: float = 0.6,
        loss_weights: Sequence[float] | None = None,
        draft_vocabulary: int | None = None,
    ) -> None:
        powers = [decay**i for i in range(n - 1)]
        weights = [1.0, *(power / sum(powers) for power in powers)]
        super().__init__(
            dim,
            vocab_size,
            n,
            RecurrentBlocks,
            unembedding,
            extra_layers,
            weights if loss_weights is None else loss_weights,
            draft_vocabulary,
        )

    def source(self, offset: int) -> int | None:
        return offset - 1 if offset else None

    def output(self, state: Tensor) -> Tensor:
        """Features [B, T, D] from a state [B, T, D], with or without embeddings beside it."""
        return self.norm(state[..., : self.blocks.dim])

    def logits_with_drafts(
        self,
        hidden: Tensor,
        tokens: Tensor,
        embedding: Callable[[Tensor], Tensor],
        vocab_size: int,
    ) -> Tensor:
        """Logits [B, T, n, V] that go on beyond the end of `tokens` with what they say there.

        Args:
            hidden: the trunk's output [B, T, 2 D] for `tokens`, long [B, T].
            embedding: the model's.
            vocab_size: tokens to draft from, without padded columns.
        """
        state = hidden[..., : self.blocks.dim]
        logits = [F.linear(self.output(state), self.unembedding())]
        for offset in range(1, self.n):
            draft = logits[-1][:, -1:, :vocab_size].argmax(-1)
            tokens = torch.cat([tokens[:, 1:], draft], dim=1)
            state = self.blocks.block(torch.cat([state, embedding(tokens)], dim=-1))
            logits.append(F.linear(self.output(state), self.unembedding(offset)))
        return torch.stack(logits, dim=2)


class RecurrentBlocks(Blocks):
    """The shared block, on states with embeddings beside them, [B, T, 2 D]."""

    from_trunk = True

    def __init__(self, n: int, dim: int) -> None:
        super().__init__(n, dim)
        self.dim = dim
        self.taken = self.needed = min(n - 1, 1)
        self.append(nn.Identity())

    @property
    def block(self) -> RecurrentBlock:
        return cast(RecurrentBlock, self[1])

    def take_layers(self, layers: nn.ModuleList) -> None:
        if len(layers) < self.taken:
            raise UsageError(
                f"head.n={self.n} takes one of the model's {len(layers)} layers: "
                "raise model.num_layers or head.extra_layers, or set head.n=1"
            )
        if self.taken:
            self.append(RecurrentBlock(self.dim, cast(DecoderLayer, layers[-1])))
            del layers[-1]

    def forward(self, hidden: Tensor, offset: int) -> Tensor:
        """The state of the offset before, to that of `offset`, beside which the embeddings have
        moved left by one. Zeros follow the last, where no token is known and none has a label."""
        if not offset:
            return hidden
        state, embedded = hidden.chunk(2, dim=-1)
        embedded = F.pad(embedded[:, 1:], (0, 0, 0, 1))
        return torch.cat([self.block(torch.cat([state, embedded], dim=-1)), embedded], dim=-1)

    @torch.no_grad()
    def copy_first(self) -> None:
        """The block hands its state on, normalised, so that the last norm gives the same."""
        if self.taken:
            nn.init.eye_(self.block.project.weight)  # of the state; zeros for the embedding
            nn.init.zeros_(self.block.layer.attention.wo.weight)
            nn.init.zeros_(self.block.layer.feed_forward.w2.weight)


class RecurrentBlock(nn.Module):
    """layer(M [norm(h); norm(e)]), from states h and embeddings e side by side.

    Args:
        dim: D.
        layer: a layer of the trunk.
    """

    def __init__(self, dim: int, layer: DecoderLayer) -> None:
        super().__init__()
        eps = layer.attention_norm.eps
        self.state_norm = nn.RMSNorm(dim, eps)
        self.token_norm = nn.RMSNorm(dim, eps)
        self.project = nn.Linear(2 * dim, dim, bias=False)
        self.layer = layer
        nn.init.normal_(self.project.weight, std=(2 * dim) ** -0.5)

    def normalized(self, joined: Tensor) -> Tensor:
        """[norm(h); norm(e)] of [B, T, 2 D]."""
        state, embedded = joined.chunk(2, dim=-1)
        return torch.cat([self.state_norm(state), self.token_norm(embedded)], dim=-1)

    def forward(self, joined: Tensor) -> Tensor:
        """[B, T, 2 D] to [B, T, D] of full sequences."""
        # Autocast multiplies in half precision; the layer's sums are to keep the trunk's.
        return self.layer(self.project(self.normalized(joined)).to(joined.dtype))
