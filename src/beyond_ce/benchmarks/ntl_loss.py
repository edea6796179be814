"""What NTL costs: time and memory, compared with cross-entropy alone and the authors' package.

Times are medians of interleaved repeats, so a machine that slows down slows all methods; ratios are
medians of the ratios within a repeat. Memory is what one forward and backward adds at its peak,
each method in a process of its own, because a process's peak never falls.

The paper reports about 1% on top of the loss. Half the labels are digits here.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from beyond_ce.losses import (
    CrossEntropy,
    CumulativeWassersteinLoss,
    ExpectedValueLoss,
    Loss,
    WassersteinLoss,
)
from beyond_ce.profiling import Step, peak_growth_mib
from beyond_ce.reproduction.measurements.random_models import DIGITS, digit_values, random_labels
from beyond_ce.runs.provenance import provenance

VOCABULARY = 32_128  # T5's padded embedding
WEIGHT = 0.3

Shape = tuple[int, ...]


def main(args: list[str]) -> dict[str, Any]:
    """Run the benchmark and return its figures: milliseconds, MiB and ratios."""
    parser = argparse.ArgumentParser(prog="benchmark.py ntl_loss", description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="timings of each method")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the benchmark")
    options = parser.parse_args(args)
    torch.set_num_threads(options.threads)
    vocabulary = 512 if options.small else VOCABULARY
    logit_shapes = [(2, 8), (4, 4)] if options.small else [(8, 512), (32, 32)]
    hidden_shapes = [(2, 8, 64)] if options.small else [(8, 512, 512), (32, 32, 512)]
    figures: dict[str, Any] = {"logits": {}, "hidden": {}}
    for kind, shapes, methods in (
        ("logits", [(*s, vocabulary) for s in logit_shapes] + [(64, 10, 512)], LOGIT_METHODS),
        ("hidden", [(*s, vocabulary) for s in hidden_shapes] + [(64, 10, 64, 512)], HIDDEN_METHODS),
    ):
        for shape in shapes:
            name = f"{kind} {'x'.join(map(str, shape))}"
            _log(name)
            steps = {m: make(shape) for m, make in methods.items() if _available(m)}
            timing = _interleaved(steps, options.repeats)
            del steps
            peak = {m: _peak_mib(kind, m, shape, options.threads) for m in timing["ms"]}
            baseline = next(iter(peak))
            figures[kind]["x".join(map(str, shape))] = timing | {
                "peak_mib": peak,
                "peak_ratio": _ratios(peak, baseline),
            }
            _log_table(timing, peak)
    figures["t5"] = _t5(options.repeats, small=options.small)
    return {
        **figures,
        "ratios_to": {"logits": "ce_torch", "hidden": "materialised", "t5": "ce_torch"},
        "threads": options.threads,
        "repeats": options.repeats,
        **provenance(),
    }


def torch_ce(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


# -- forward and backward of the loss, from logits ------------------------------------------------


def _on_logits(
    make_loss: Callable[[int], Callable[[Tensor, Tensor], Tensor]], shape: Shape
) -> Step:
    *rows, vocabulary = shape
    logits, labels = torch.randn(shape).requires_grad_(), random_labels(tuple(rows), vocabulary)
    loss = make_loss(vocabulary)

    def step() -> None:
        loss(logits, labels).backward()
        logits.grad = None

    return step


def _ours(loss_class: type[Loss], vocabulary: int) -> Callable[[Tensor, Tensor], Tensor]:
    loss = loss_class(digit_values(vocabulary))
    return lambda logits, labels: loss(logits, labels).total


def package_loss(reweigh: bool, vocabulary: int) -> Callable[[Tensor, Tensor], Tensor]:
    from ntloss import NTLoss
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(vocabulary) if i not in DIGITS}
    words |= {str(value): int(i) for value, i in enumerate(DIGITS)}
    word_level = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=word_level)
    ntl = NTLoss(tokenizer, reweigh=reweigh)
    return lambda logits, labels: torch_ce(logits, labels) + WEIGHT * ntl(logits, labels)


def _available(method: str) -> bool:
    return not method.startswith("ntloss") or importlib.util.find_spec("ntloss") is not None


LOGIT_METHODS: dict[str, Callable[[Shape], Step]] = {
    "ce_torch": functools.partial(_on_logits, lambda vocabulary: torch_ce),
    "ce": functools.partial(_on_logits, functools.partial(_ours, CrossEntropy)),
    "ntl_was": functools.partial(_on_logits, functools.partial(_ours, WassersteinLoss)),
    "ntloss": functools.partial(_on_logits, functools.partial(package_loss, False)),
    "ntloss_reweigh": functools.partial(_on_logits, functools.partial(package_loss, True)),
}


# -- the same from hidden states ------------------------------------------------------------------


def _on_hidden(method: str, shape: Shape) -> Step:
    *rows, dim, vocabulary = shape
    hidden = torch.randn(*rows, dim).requires_grad_()
    unembedding = (torch.randn(vocabulary, dim) / dim**0.5).requires_grad_()
    labels, loss = random_labels(tuple(rows), vocabulary), WassersteinLoss(digit_values(vocabulary))

    def step() -> None:
        if method == "from_hidden":
            total = loss.from_hidden(hidden, unembedding, labels).total
        elif method == "materialised":
            total = loss(hidden @ unembedding.T, labels).total
        else:
            total = torch_ce(hidden @ unembedding.T, labels)
        total.backward()
        hidden.grad = unembedding.grad = None

    return step


HIDDEN_METHODS: dict[str, Callable[[Shape], Step]] = {
    method: functools.partial(_on_hidden, method)
    for method in ("materialised", "from_hidden", "ce_torch")
}


# -- a training step of a small T5 ----------------------------------------------------------------


def _t5(repeats: int, small: bool) -> dict[str, Any]:
    """The loss alone, the forward pass and the training step of a T5, with each loss."""
    from transformers import T5Config, T5ForConditionalGeneration

    batch, length, vocabulary = (2, 8, 512) if small else (16, 64, VOCABULARY)
    config = T5Config(
        vocab_size=vocabulary,
        d_model=256,
        d_ff=1024,
        d_kv=64,
        num_layers=4,
        num_heads=4,
        dropout_rate=0.0,
    )
    model = T5ForConditionalGeneration(config)
    optimizer = torch.optim.AdamW(model.parameters())
    inputs, labels = (
        random_labels((batch, length), vocabulary),
        random_labels((batch, length), vocabulary),
    )
    shifted = F.pad(labels[:, :-1], (1, 0))

    def hidden() -> Tensor:
        encoded = model.encoder(input_ids=inputs)[0]
        return model.decoder(input_ids=shifted, encoder_hidden_states=encoded)[0]

    values, weight = digit_values(vocabulary), model.lm_head.weight
    losses: dict[str, Loss] = {
        "ce": CrossEntropy(values),
        "ntl_mse": ExpectedValueLoss(values),
        "ntl_was": WassersteinLoss(values),
        "ntl_was_cdf": CumulativeWassersteinLoss(values),
    }
    heads: dict[str, Callable[[Tensor], Tensor]] = {
        "ce_torch": lambda h: torch_ce(h @ weight.T, labels)
    }
    for name, loss in losses.items():
        heads[name] = lambda h, loss=loss: loss(h @ weight.T, labels).total  # type: ignore[misc]
        heads[f"{name} from_hidden"] = lambda h, loss=loss: (  # type: ignore[misc]
            loss.from_hidden(h, weight, labels).total
        )

    def training_step(head: Callable[[Tensor], Tensor]) -> None:
        head(hidden()).backward()
        optimizer.step()
        optimizer.zero_grad()

    def forward(head: Callable[[Tensor], Tensor]) -> None:
        with torch.no_grad():
            head(hidden())

    figures: dict[str, Any] = {"shape": f"batch {batch}, length {length}, d_model 256, 4+4 layers"}
    logits_shape = (batch, length, vocabulary)
    loss_alone: dict[str, Step] = {"ce_torch": LOGIT_METHODS["ce_torch"](logits_shape)}
    for name, loss in losses.items():
        make_loss = functools.partial(_ours, type(loss))
        loss_alone[name] = _on_logits(make_loss, logits_shape)
    parts: dict[str, dict[str, Step]] = {
        "loss_alone": loss_alone,
        "forward": {name: functools.partial(forward, head) for name, head in heads.items()},
        "step": {name: functools.partial(training_step, head) for name, head in heads.items()},
    }
    for part, steps in parts.items():
        _log(f"t5 {part}")
        figures[part] = _interleaved(steps, repeats)
        _log_table(figures[part])
    return figures


# -- measuring ------------------------------------------------------------------------------------


def _interleaved(steps: dict[str, Step], repeats: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of each step, and the median ratio to the first one."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat:  # the first round is a warm-up
                seconds[name].append(time.perf_counter() - start)
    first = next(iter(seconds.values()))
    return {
        "ms": {name: round(1e3 * statistics.median(s), 3) for name, s in seconds.items()},
        "ratio": {
            name: round(statistics.median(a / b for a, b in zip(s, first, strict=True)), 4)
            for name, s in seconds.items()
        },
    }


def _peak_mib(kind: str, method: str, shape: Shape, threads: int) -> float | None:
    """Peak growth of resident memory in one forward and backward, in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_peak, (kind, method, shape, threads))


def _measure_peak(kind: str, method: str, shape: Shape, threads: int) -> float | None:
    torch.set_num_threads(threads)
    methods = LOGIT_METHODS if kind == "logits" else HIDDEN_METHODS
    rows = (2,) * (len(shape) - (1 if kind == "logits" else 2))
    methods[method]((*rows, *shape[len(rows) :]))()  # loads libraries and thread pools first
    return peak_growth_mib(methods[method](shape), torch.device("cpu"))


def _ratios(values: dict[str, float | None], baseline: str) -> dict[str, float | None]:
    base = values[baseline]
    return {k: round(v / base, 4) if v is not None and base else None for k, v in values.items()}


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _log_table(timing: dict[str, dict[str, float]], peak: dict[str, Any] | None = None) -> None:
    for name, ms in timing["ms"].items():
        memory = f"{peak[name]:10.1f} MiB" if peak and peak[name] is not None else ""
        _log(f"  {name:26s} {ms:10.2f} ms  x {timing['ratio'][name]:.3f} {memory}")
