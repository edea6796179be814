"""What a forward of self-speculative decoding costs: with k heads beside one for a single token.

One that verifies k - 1 drafts and makes the next ones takes longer than one that reads a token. The
ratio is how many tokens per forward a trained model must give with k heads for them to pay, at that
size, head and batch size; it does not depend on the weights, which are random here.
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
        batches: prompts decoded together, each a measurement of its own.
        vocabulary: V.
        prompt_tokens: tokens in the cache before the forward.
        forwards: with each k in a repeat, of which the median counts.
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
            medians = {k: statistics.median(each) for k, each in seconds.items()}
            metrics[f"cost/b{batch}_milliseconds"] = 1e3 * medians[1]
            metrics |= {f"cost/b{batch}_k{k}": each / medians[1] for k, each in medians.items()}
            total += sum(map(sum, seconds.values()))
        return {
            "metrics": metrics,
            "parameters": sum(each.numel() for each in model.parameters()),
            "steps": self.forwards,
            "samples": self.forwards * sum(self.batches),
            "wall_clock_s": total,
            "threads": torch.get_num_threads(),
        }


def forward(model: Decoder, prompts: list[list[int]], k: int) -> Step:
    """A forward with k heads of a decoding that has read the prompts, the same one each time."""
    state, _ = model.prefill(prompts, 2 * k, k)
    tokens = torch.tensor([prompt[:k] for prompt in prompts])

    @torch.inference_mode()
    def step() -> None:
        state.logits(state.read(tokens)).max(dim=-1)[1].tolist()
        if k > 1:
            state.look_ahead([k // 2] * len(prompts)).max(dim=-1)[1].tolist()

    return step


def forward_seconds(
    steps: Mapping[int, Step], forwards: int, draw: random.Random, device: torch.device
) -> dict[int, list[float]]:
    """Seconds of each forward, by k, after one of each to warm up."""
    named = {str(k): step for k, step in steps.items()}
    in_turns(named, 1, draw, device)
    return {int(k): each for k, each in in_turns(named, forwards, draw, device).items()}
