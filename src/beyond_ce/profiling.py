"""Measures time, memory and operations, for the benchmarks and the measured tables."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from beyond_ce.models import Decoder

Step = Callable[[], Any]

_RESET = Path("/proc/self/clear_refs")


def now(device: torch.device) -> float:
    """The time in seconds, read once the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def in_turns(
    steps: Mapping[str, Step], iterations: int, draw: random.Random, device: torch.device
) -> dict[str, list[float]]:
    """Seconds that every step takes in every iteration; the steps take turns.

    Each iteration runs all steps in a new random order, because a step changes the caches for the
    next one, and a machine that slows down should slow all steps alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(iterations):
        for name in draw.sample(list(steps), len(steps)):
            start = now(device)
            steps[name]()
            seconds[name].append(now(device) - start)
    return seconds


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Median over the repeats, each of which took both in turn."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def peak_growth_mib(step: Step, device: torch.device) -> float | None:
    """Peak memory in MiB of one run of the step, beyond what was in use before.

    On a CPU it is the process's resident memory. Memory that an earlier step freed may still be
    resident, so steps to be compared need a fresh process each. None on a system without /proc.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return round((torch.cuda.max_memory_allocated(device) - before) / 2**20, 2)
    if not _RESET.exists():
        return None
    _RESET.write_text("5", encoding="utf-8")  # resets the peak to the current size
    resident = _resident_mib("VmRSS")
    step()
    return round(_resident_mib("VmHWM") - resident, 2)


def _resident_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def training_flops(model: Decoder, shape: tuple[int, int]) -> int:
    """Floating-point operations of the matrix products in a forward and backward pass.

    Counts the logits of all heads, all T x T attention scores, and what activation checkpointing
    computes again.

    Args:
        model: a `Decoder` on the meta device, where nothing is computed.
        shape: [B, T] of its tokens.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model.logits(torch.zeros(shape, dtype=torch.long)).sum().backward()
    return counter.get_total_flops()
