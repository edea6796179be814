"""What n heads cost a training step of the 30M preset: memory, time and operations.

ours   forward and backward head by head, as `Objective` does it;
naive  the same loss in one graph, with the logits of all heads at once and torch's cross-entropy.

Memory is what one forward and backward pass adds at its peak to the loaded model; on a CPU each
mode has a process of its own, because a process's peak never falls. Times are medians of repeats
in which all modes take turns with the same parameters. Ratios are relative to one head; the ratio
of operations is given too, as the lower limit for the ratio of times.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor

from beyond_ce.batches.batch import IGNORED, Batch, future_labels
from beyond_ce.configuration import compose
from beyond_ce.losses import CrossEntropy
from beyond_ce.models import Decoder
from beyond_ce.profiling import Step, in_turns, peak_growth_mib
from beyond_ce.reproduction.measurements.random_models import (
    decoder_flops,
    decoders_sharing_parameters,
    random_batch,
    random_decoder,
)
from beyond_ce.runs.provenance import provenance
from beyond_ce.training.objective import Objective

MODES = {"n=1": 1, "n=2": 2, "n=4": 4, "n=8": 8, "naive n=4": 4}
BAR = 1.05  # at most: the memory ratio, and the time ratio over the ratio of operations

Setting = dict[str, Any]


def main(args: list[str]) -> dict[str, Any]:
    """Run the benchmark and return its figures: MiB, milliseconds and ratios to one head."""
    parser = argparse.ArgumentParser(prog="benchmark.py mtp_step", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="timings of each mode")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, nargs=2, default=[8, 512], help="rows and tokens")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the benchmark")
    options = parser.parse_args(args)
    torch.set_num_threads(options.threads)
    setting = {
        "model": f"decoder_{'1m' if options.small else '30m'}",
        "layers": 9 if options.small else 10,
        "vocabulary": 512 if options.small else 32000,
        "batch": [2, 16] if options.small else options.batch,
        "device": options.device,
        "threads": options.threads,
    }
    modes = ["n=1", *(mode for mode in options.modes if mode != "n=1")]
    memory = {mode: _peak_mib(setting, mode) for mode in modes}
    steps = _steps(setting, modes)
    device = torch.device(options.device)
    in_turns(steps, 1, random.Random(0), device)  # warm-up
    seconds = in_turns(steps, options.repeats, random.Random(1), device)
    flops = {mode: _flops(setting, MODES[mode]) for mode in modes}
    time = {mode: statistics.median(times) for mode, times in seconds.items()}
    time_ratio = {
        mode: statistics.median(a / b for a, b in zip(times, seconds["n=1"], strict=True))
        for mode, times in seconds.items()
    }
    flop_ratio = {mode: count / flops["n=1"] for mode, count in flops.items()}
    figures: dict[str, dict[str, Any]] = {
        "peak_mib": memory,
        "memory_ratio": {mode: _ratio(mib, memory["n=1"]) for mode, mib in memory.items()},
        "milliseconds": {mode: 1e3 * median for mode, median in time.items()},
        "time_ratio": time_ratio,
        "teraflops": {mode: count / 1e12 for mode, count in flops.items()},
        "flop_ratio": flop_ratio,
        "time_over_flops": {mode: time_ratio[mode] / flop_ratio[mode] for mode in modes},
    }
    _log(figures)
    return {
        **figures,
        "bar": BAR,
        "gradient_difference": gradient_difference({**setting, "batch": [2, 16]}),
        "setting": setting,
        "repeats": options.repeats,
        **provenance(),
    }


def _config(setting: Setting) -> DictConfig:
    model = [f"model={setting['model']}", f"model.num_layers={setting['layers']}"]
    return compose([*model, "head=multi_token"])


def _flops(setting: Setting, n: int) -> int:
    return decoder_flops(_config(setting), n, setting["vocabulary"], setting["batch"])


def _steps(setting: Setting, modes: Sequence[str]) -> dict[str, Step]:
    """Mode -> one forward and backward pass, whose gradients are dropped."""
    vocabulary = setting["vocabulary"]
    with torch.device(setting["device"]):
        torch.manual_seed(0)
        heads = sorted({MODES[mode] for mode in modes})
        models = decoders_sharing_parameters(_config(setting), heads, vocabulary)
        ours = CrossEntropy(torch.full((vocabulary,), torch.nan))
    batch = random_batch(setting["batch"], vocabulary).to(setting["device"])

    def step(model: Decoder, loss: Callable[[Batch], Tensor]) -> None:
        with torch.autocast(setting["device"], torch.bfloat16, setting["device"] == "cuda"):
            total = loss(batch)
        total.backward()
        model.zero_grad()

    def head_by_head(model: Decoder, batch: Batch) -> Tensor:
        return Objective(model, ours)(batch)[0]

    return {
        mode: partial(
            step,
            models[MODES[mode]],
            partial(all_at_once if "naive" in mode else head_by_head, models[MODES[mode]]),
        )
        for mode in modes
    }


def all_at_once(model: Decoder, batch: Batch) -> Tensor:
    """The loss of all heads in one graph."""
    hidden, total = model.trunk(batch), torch.zeros((), device=batch.labels.device)
    for offset in range(model.head.n):
        labels = future_labels(batch.labels, batch.segments, offset)
        logits = model.head.logits(hidden, offset)
        total = total + F.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED
        )
    return total


def gradient_difference(setting: Setting) -> float:
    """Largest difference between our and the naive gradient of a parameter, relative, in norm."""
    vocabulary = setting["vocabulary"]
    model = random_decoder(_config(setting), vocabulary, n=4)
    batch = random_batch(setting["batch"], vocabulary)
    gradients = []
    for total in (
        Objective(model, CrossEntropy(torch.full((vocabulary,), torch.nan)))(batch)[0],
        all_at_once(model, batch),
    ):
        total.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
        model.zero_grad()
    return max(float((a - b).norm() / b.norm()) for a, b in zip(*gradients, strict=True))


def _peak_mib(setting: Setting, mode: str) -> float | None:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_peak, (setting, mode))


def _measure_peak(setting: Setting, mode: str) -> float | None:
    torch.set_num_threads(setting["threads"])
    _steps({**setting, "batch": [1, 8]}, [mode])[mode]()  # loads libraries and thread pools first
    return peak_growth_mib(_steps(setting, [mode])[mode], torch.device(setting["device"]))


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def _log(figures: dict[str, dict[str, Any]]) -> None:
    for name, values in figures.items():
        cells = (f"{mode} {v:.4g}" for mode, v in values.items() if v is not None)
        print(f"{name:16s} {', '.join(cells)}", file=sys.stderr, flush=True)
