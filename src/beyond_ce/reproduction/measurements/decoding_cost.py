"""What a forward of self-speculative decoding with k heads costs, relative to one for one token.

A forward that verifies k - 1 drafts and makes the next ones takes longer than one that reads a
token. k heads pay if a trained model gives more tokens per forward than this ratio, at that size,
head and batch size. The ratio does not depend on the weights, so they are random here.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig

from beyond_ce.configuration import build
from beyond_ce.models import Decoder
from beyond_ce.profiling import Step, in_turns
from beyond_ce.reproduction.measurement import RowByRow
from beyond_ce.reproduction.measurements.random_models import random_decoder, random_prompts

Report = dict[str, Any]


class DecodingCost(RowByRow):
    """The measurement behind table mtp-cost.

    Args:
        batches: the batch sizes to measure, in prompts.
        vocabulary: V.
        prompt_tokens: tokens in the cache before the forward.
        forwards: forwards for each k in a repeat; their median counts.
    """

    def __init__(
        self, batches: Sequence[int], vocabulary: int, prompt_tokens: int, forwards: int
    ) -> None:
        self.batches = batches
        self.vocabulary = vocabulary
        self.prompt_tokens = prompt_tokens
        self.forwards = forwards

    def measure(self, config: DictConfig, repeat: int) -> Report:
        fabric = build(config.trainer, "trainer").fabric
        fabric.seed_everything(repeat, verbose=False)
        with fabric.init_module():
            model = random_decoder(config, self.vocabulary).eval()
        draw = random.Random(repeat)
        metrics: dict[str, float] = {}
        total = 0.0
        for batch in self.batches:
            prompts = random_prompts(self.vocabulary, batch, self.prompt_tokens)
            steps = {k: forward(model, prompts, k) for k in range(1, config.head.n + 1)}
            seconds = forward_seconds(steps, self.forwards, draw, fabric.device)
            medians = {k: statistics.median(times) for k, times in seconds.items()}
            metrics[f"cost/b{batch}_milliseconds"] = 1e3 * medians[1]
            metrics |= {f"cost/b{batch}_k{k}": time / medians[1] for k, time in medians.items()}
            total += sum(map(sum, seconds.values()))
        return {
            "metrics": metrics,
            "parameters": sum(p.numel() for p in model.parameters()),
            "steps": self.forwards,
            "samples": self.forwards * sum(self.batches),
            "wall_clock_s": total,
            "threads": torch.get_num_threads(),
        }


def forward(model: Decoder, prompts: list[list[int]], k: int) -> Step:
    """A step that runs the same forward every time: with k heads, after the prompts."""
    state, _ = model.prefill(prompts, 2 * k, k)
    device = model.embedding.weight.device
    tokens = torch.tensor([prompt[:k] for prompt in prompts], device=device)

    @torch.inference_mode()
    def step() -> None:
        state.logits(state.read(tokens)).max(dim=-1)[1].tolist()
        if k > 1:
            places, following = [k // 2] * len(prompts), [0] * len(prompts)
            state.drafts(places, following).tolist()

    return step


def forward_seconds(
    steps: Mapping[int, Step], forwards: int, draw: random.Random, device: torch.device
) -> dict[int, list[float]]:
    """Seconds of each forward, by k, after a warm-up."""
    named = {str(k): step for k, step in steps.items()}
    in_turns(named, 1, draw, device)
    return {int(k): times for k, times in in_turns(named, forwards, draw, device).items()}
