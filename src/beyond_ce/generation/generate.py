"""The entry point of decoding."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from beyond_ce.errors import RunError, UsageError
from beyond_ce.generation.beam import decode_beams
from beyond_ce.generation.sampling import Sampler
from beyond_ce.generation.self_speculative import decode_self_speculatively
from beyond_ce.generation.token_by_token import NotFinite, OnTokens, Stop, decode_token_by_token
from beyond_ce.models import LanguageModel, evaluating
from beyond_ce.settings import COUNT, NO_LIMIT, takes

SEQUENCES_AT_ONCE = 256
"""Default of prompts times beams in one batch."""


@dataclass(frozen=True)
class Generation:
    """What `generate` returns.

    Attributes:
        tokens: the new tokens of each prompt, in the order of the prompts, EOS included when
            produced.
        tokens_per_forward: new tokens divided by forward passes, each pass counted once for every
            prompt in it: 1 for one head, up to k for k heads, and less than 1 for beam search
            that looks past the end of the sequence it returns.
    """

    tokens: list[list[int]]
    tokens_per_forward: float


@torch.inference_mode()
@takes(
    "",
    max_new_tokens=COUNT,
    heads=COUNT,
    num_beams=COUNT,
    batch_size=NO_LIMIT,
)
def generate(
    model: LanguageModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    eos_id: int | Collection[int] | None = None,
    heads: int = 1,
    num_beams: int = 1,
    batch_size: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    on_tokens: OnTokens | None = None,
    stop: Stop | None = None,
    streams: Sequence[int] | None = None,
) -> Generation:
    """Continues every prompt, on the model's device: greedily, with several heads (greedily too,
    in fewer forwards), with beam search, or at random.

    Args:
        prompts: token lists of any lengths. For several samples of a prompt, repeat it: in a batch
            it is then read once.
        max_new_tokens: longest continuation, EOS included.
        eos_id: the token that ends a continuation, or several of which each does; None to always
            generate `max_new_tokens`.
        heads: the model's heads to decode with. More than one changes the time, not the result
            (up to rounding).
        num_beams: width of the beam search, 1 for none.
        batch_size: prompts decoded together, by default as many as make 256 sequences. Changes time
            and memory, not the result (up to rounding).
        temperature: 0 for the most probable token, else tokens are drawn from the softmax of
            logits / temperature.
        top_p: draw from the smallest set of tokens that holds this share of the probability.
        seed: the sample of prompt i depends on the seed, i and the prompt alone (up to rounding).
        on_tokens: called with new tokens as they come, once per prompt and forward; with beam
            search, once per prompt when its batch is done.
        stop: also ends a continuation, such as at a text (see `StopTexts`); not for beam search.
        streams: a number for each prompt in place of i, on which its sample then depends. So
            samples stay the same when others are left out, say those of an earlier call.

    Raises:
        UsageError: a number is out of range, settings exclude each other, or a prompt does not
            fit the model.
        RunError: the model's logits are not finite.
    """
    if batch_size is None:
        batch_size = max(1, SEQUENCES_AT_ONCE // max(1, num_beams))
    _check_sampling(temperature, top_p, seed)
    _check_method(heads, num_beams, temperature)
    if num_beams > 1 and stop is not None:
        raise UsageError(f"num_beams={num_beams} with stop: beam search ends at end tokens only")
    _check_fit(model, prompts, max_new_tokens, heads)
    ends = () if eos_id is None else (eos_id,) if isinstance(eos_id, int) else tuple(eos_id)

    def decode(rows: list[int]) -> tuple[list[list[int]], int]:
        """Decodes the prompts with these indices as one batch."""
        batch = [prompts[i] for i in rows]

        def report(row: int, new: list[int]) -> None:
            if on_tokens is not None:
                on_tokens(rows[row], new)

        stops = None if stop is None else lambda row, new: stop(rows[row], new)
        if num_beams > 1:
            new, passes = decode_beams(model, batch, max_new_tokens, ends, num_beams)
            for row, sequence in enumerate(new):
                report(row, sequence)
            return new, passes
        if heads > 1:
            return decode_self_speculatively(
                model, batch, max_new_tokens, ends, heads, report, stops
            )
        numbers = rows if streams is None else [streams[i] for i in rows]
        sampler = None
        if temperature:
            sampler = Sampler(temperature, top_p, seed, numbers, max_new_tokens)
        return decode_token_by_token(model, batch, max_new_tokens, ends, sampler, report, stops)

    tokens: list[list[int]] = [[] for _ in prompts]
    forwards = 0
    # Prompts of similar length share a batch to save padding; the longest go first, so that a batch
    # too large for memory fails at once.
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    with evaluating(model):
        for start in range(0, len(prompts), batch_size):
            rows = by_length[start : start + batch_size]
            try:
                new, passes = decode(rows)
            except NotFinite as error:
                raise RunError(
                    f"the model's logits for prompt {rows[error.row]} are not finite: "
                    "use another checkpoint, or higher precision"
                ) from error
            forwards += passes
            for i, row in zip(rows, new, strict=True):
                tokens[i] = row
    return Generation(tokens, sum(map(len, tokens)) / max(1, forwards))


def longest_continuation(model: LanguageModel, prompt: list[int]) -> int | None:
    """The largest `max_new_tokens` with which a prompt fits the model; None for no limit."""
    # The model never reads the last new token.
    return None if model.max_length is None else model.max_length - len(prompt) + 1


def _check_sampling(temperature: float, top_p: float, seed: int) -> None:
    if not 0 <= temperature < math.inf:
        raise UsageError(
            f"temperature={temperature}: give a positive number, or 0 for greedy decoding"
        )
    if not 0 < top_p <= 1:
        raise UsageError(f"top_p={top_p}: give a share of the probability above 0 and at most 1")
    if seed < 0:
        raise UsageError(f"seed={seed}: give at least 0")


def _check_method(heads: int, num_beams: int, temperature: float) -> None:
    if num_beams > 1 and temperature > 0:
        raise UsageError(
            f"num_beams={num_beams} with temperature={temperature}: beam search does not sample, "
            "set num_beams=1 or temperature=0"
        )
    if heads > 1 and num_beams > 1:
        raise UsageError(
            f"heads={heads} with num_beams={num_beams}: several heads decode greedily, "
            "set heads=1 or num_beams=1"
        )
    if heads > 1 and temperature > 0:
        raise UsageError(
            f"heads={heads} with temperature={temperature}: several heads decode greedily, "
            "set heads=1 or temperature=0"
        )


def _check_fit(
    model: LanguageModel, prompts: list[list[int]], max_new_tokens: int, heads: int
) -> None:
    if model.head.target != "tokens":
        raise UsageError(f"{type(model.head).__name__} does not predict tokens: use answer()")
    if heads > model.head.n:
        raise UsageError(f"heads={heads} > {model.head.n}: the model has {model.head.n} head(s)")
    # All prompts before decoding starts, as it may take hours.
    for i, prompt in enumerate(prompts):
        if not prompt and model.needs_prompt:
            raise UsageError(
                f"prompt {i} is empty, and a decoder-only model needs something to continue: "
                "leave it out, or start it with a token such as the tokenizer's eos_id"
            )
        room = longest_continuation(model, prompt)
        if room is not None and room < max_new_tokens:
            raise UsageError(
                f"prompt {i} of {len(prompt)} tokens and max_new_tokens={max_new_tokens} exceed "
                f"the model's context of {model.max_length}: "
                + (f"set max_new_tokens={room} at most" if room > 0 else "shorten the prompt")
            )
