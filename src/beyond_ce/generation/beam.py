"""Beam search with length-normalised scores, step for step that of transformers.

Shapes: B prompts, K beams, V vocabulary, N the longest continuation.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from beyond_ce.generation.token_by_token import NotFinite
from beyond_ce.models import LanguageModel

IMPOSSIBLE = -1e9
"""Score of a beam that does not exist; finite, so that it can be added to and compared."""


def decode_beams(
    model: LanguageModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    end_ids: Collection[int],
    num_beams: int,
) -> tuple[list[list[int]], int]:
    """The best continuation of every prompt of one batch by mean log-probability per token.

    Each step extends the K running beams by one token and takes the best 2 K continuations. Those
    that end, if among the first K, compete for the K finished beams; the best K of the others are
    the next running beams. A prompt is done when its best running beam, at its current length,
    scores no better than the worst finished one (`length_penalty=1.0, early_stopping=False` of
    transformers). That is a heuristic: scores are means, so a running beam could still recover.

    Args:
        end_ids: the tokens that end a continuation.

    Returns:
        As `decode_token_by_token`; a forward of all beams of a prompt counts once.

    Raises:
        NotFinite: the model's logits are not finite.
    """
    state, logits = model.prefill(prompts, max_new_tokens)
    device, vocab_size = logits.device, logits.shape[-1]
    batch = forwards = len(prompts)
    ends = torch.tensor(list(end_ids), dtype=torch.long, device=device)
    # Before the first token all beams of a prompt are the same: only the first may be extended.
    state.select(torch.arange(batch, device=device).repeat_interleave(num_beams))
    logits = logits.repeat_interleave(num_beams, dim=0)
    running_scores = torch.full((batch, num_beams), IMPOSSIBLE, device=device)
    running_scores[:, 0] = 0.0
    running = torch.full((batch, num_beams, max_new_tokens), -1, device=device)
    finished_scores = torch.full((batch, num_beams), IMPOSSIBLE, device=device)
    finished = running
    best = running[:, 0].clone()
    active = torch.arange(batch, device=device)
    for t in range(max_new_tokens):
        log_probs = logits.float().log_softmax(dim=-1).unflatten(0, (-1, num_beams))
        scores = (running_scores[:, :, None] + log_probs).flatten(1)
        # 2 K, because up to K may end here and K must keep running.
        scores, flat = scores.topk(2 * num_beams)
        broken = scores[:, 0].isnan()  # the largest of scores with a NaN is NaN
        if broken.any():
            raise NotFinite(int(active[broken][0]))
        parents, tokens = flat // vocab_size, flat % vocab_size
        sequences = _take(running, parents)
        sequences[:, :, t] = tokens
        ended = torch.isin(tokens, ends)
        if t + 1 == max_new_tokens:
            ended = torch.ones_like(ended)

        means = (scores / (t + 1)).masked_fill(~ended, IMPOSSIBLE)[:, :num_beams]
        finished_scores, order = torch.cat((finished_scores, means), dim=1).topk(num_beams)
        finished = _take(torch.cat((finished, sequences[:, :num_beams]), dim=1), order)
        best[active] = finished[:, 0]

        running_scores, order = scores.masked_fill(ended, IMPOSSIBLE).topk(num_beams)
        unfinished = running_scores[:, 0] / (t + 1) > finished_scores[:, -1]
        if t + 1 == max_new_tokens or not unfinished.any():
            break
        running = _take(sequences, order)[unfinished]
        parents, tokens = parents.gather(1, order)[unfinished], tokens.gather(1, order)[unfinished]
        running_scores, finished_scores = running_scores[unfinished], finished_scores[unfinished]
        finished, active = finished[unfinished], active[unfinished]
        state.select((unfinished.nonzero() * num_beams + parents).flatten())
        logits = model.step(state, tokens.flatten())
        forwards += len(active)
    return [[token for token in row if token >= 0] for row in best.tolist()], forwards


def _take(beams: Tensor, order: Tensor) -> Tensor:
    """Sequences [B, K', N] out of [B, K, N], by their indices [B, K'] within each prompt."""
    return beams.gather(1, order[:, :, None].expand(-1, -1, beams.shape[2]))
