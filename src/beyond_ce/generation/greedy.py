"""Greedy decoding: always the most probable next token."""

from __future__ import annotations

import torch

from beyond_ce.models import LanguageModel


def decode_greedily(
    model: LanguageModel, prompts: list[list[int]], max_new_tokens: int, eos_id: int
) -> tuple[list[list[int]], int]:
    """Continues every prompt of one batch up to EOS or `max_new_tokens`.

    Finished sequences leave the batch, so that the rest gets faster.

    Returns:
        The new tokens of each prompt, EOS included when produced, and the forward passes summed
        over the sequences that took part in them.
    """
    state, logits = model.prefill(prompts, max_new_tokens)
    forwards = len(prompts)
    going = torch.arange(len(prompts), device=logits.device)
    new = torch.full((len(prompts), max_new_tokens), -1, device=logits.device)
    for t in range(max_new_tokens):
        tokens = logits.argmax(dim=-1)
        new[going, t] = tokens
        if t + 1 == max_new_tokens:
            break
        rows = (tokens != eos_id).nonzero().squeeze(-1)
        if len(rows) < len(going):
            if len(rows) == 0:
                break
            state.select(rows)
            going, tokens = going[rows], tokens[rows]
        logits = model.step(state, tokens)
        forwards += len(going)
    return [[token for token in row if token >= 0] for row in new.tolist()], forwards
