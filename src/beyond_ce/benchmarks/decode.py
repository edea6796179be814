"""The speed of greedy decoding, with one head and with several.

plain   our cached decoding compared with transformers' `LlamaForCausalLM.generate`, with the same
        weights and the same tokens as result;
memory  plain decoding of one prompt in float32 and bfloat16, compared with only reading as many
        bytes as a token's weights have, with as many threads: `share` is the time of reading over
        that of decoding. Of the 100M preset and, with --model, of a pretrained model. llama.cpp
        takes part if the packages llama-cpp-python and gguf are installed;
cost    a forward that verifies k - 1 drafts and makes the next ones, of a model with n heads,
        compared with a forward for one token: several heads pay if they give more tokens per
        forward than this ratio;
run     with --run: tokens per second and per forward of a trained model on held-out documents
        (see `SelfSpeculation`).

The compared functions take turns in random order. Figures are medians over the repeats; a ratio is
the median of the ratios within a repeat.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from beyond_ce.checkpoints import Checkpoint, load_decoder, write_checkpoint
from beyond_ce.configuration import build, compose
from beyond_ce.errors import RunError, UsageError
from beyond_ce.evaluation import Subject
from beyond_ce.evaluation.decoding_peers import PEERS, is_there
from beyond_ce.evaluation.self_speculation import SelfSpeculation, differences
from beyond_ce.generation import generate
from beyond_ce.models import Decoder
from beyond_ce.profiling import Step, in_turns
from beyond_ce.reproduction.measurements.decoding_cost import forward, forward_seconds
from beyond_ce.reproduction.measurements.random_models import random_decoder, random_prompts
from beyond_ce.runs.assembly import load_run
from beyond_ce.runs.provenance import provenance
from beyond_ce.runs.store import read_config

SIZES = ("1m", "3m", "10m", "30m", "100m")
# At least; at most (4 heads, 100M, batch size 1); at least (bfloat16).
BARS = {"plain": 1.5, "cost": 1.35, "memory": 0.85}

Figures = dict[str, Any]


def main(args: list[str]) -> Figures:
    """Run the benchmark and return its figures: tokens per second, milliseconds and ratios."""
    parser = argparse.ArgumentParser(prog="benchmark.py decode", description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="presets decoder_<size>")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[258, 32000])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--heads", type=int, default=4, help="n in part 'cost'")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--max-prompts", type=int, default=16, help="in part 'run'")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each decoding")
    parser.add_argument(
        "--forwards", type=int, default=25, help="timings for each k in part 'cost'"
    )
    parser.add_argument("--model", type=Path, help="a checkpoint's folder, for part 'memory'")
    parser.add_argument("--read-mib", type=int, default=1024, help="to read in part 'memory'")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--parts", nargs="+", choices=["plain", "cost", "memory", "run"])
    parser.add_argument("--run", type=Path, help="a trained run's folder")
    parser.add_argument("--small", action="store_true", help="few tokens, to try the benchmark")
    options = parser.parse_args(args)
    if options.small:
        options.sizes, options.vocabularies, options.batches = ["1m"], [258], [1, 2]
        options.prompt_tokens, options.new_tokens, options.max_prompts = 8, 6, 2
        options.repeats, options.forwards, options.read_mib = 1, 2, 1
    parts = options.parts or ["plain", "cost", "memory", *(["run"] if options.run else [])]
    if "run" in parts and options.run is None:
        raise UsageError("part 'run' needs a trained model: give --run <its folder>")
    torch.set_num_threads(options.threads)
    figures: Figures = {part: {} for part in parts}
    for size in options.sizes if {"plain", "cost"} & set(parts) else ():
        for vocabulary in options.vocabularies:
            name = f"{size} {vocabulary}"
            if "plain" in parts:
                figures["plain"][name] = _plain(size, vocabulary, options)
            if "cost" in parts:
                figures["cost"][name] = _cost(size, vocabulary, options)
    if "memory" in parts:
        preset = options.sizes[-1]
        figures["memory"][preset] = _memory(preset, _model(preset, 32000, "head=lm")[1], options)
        if options.model is not None:
            name = options.model.name
            figures["memory"][name] = _memory(name, load_decoder(options.model), options)
    if "run" in parts:
        figures["run"] = _run(options)
    settings = {
        k: v for k, v in vars(options).items() if k not in ("parts", "run", "model", "small")
    }
    return {**figures, "bars": BARS, **settings, **provenance()}


def _model(size: str, vocabulary: int, *head: str) -> tuple[Figures, Decoder]:
    """A preset with random weights, and its config (see `Checkpoint`)."""
    config = compose([f"model=decoder_{size}", *head])
    torch.manual_seed(0)
    model = random_decoder(config, vocabulary).eval()
    sizes = {"vocab_size": vocabulary, "pad_id": model.pad_id, "eos_id": model.eos_id}
    parts = {part: OmegaConf.to_container(config[part], resolve=True) for part in ("model", "head")}
    return {**sizes, **parts}, model


def _plain(size: str, vocabulary: int, options: argparse.Namespace) -> Figures:
    """Tokens per second, ours and transformers', by batch size."""
    from transformers import LlamaForCausalLM

    config, model = _model(size, vocabulary, "head=lm")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "model"
        write_checkpoint(Checkpoint(config, model), place, "hf")
        peer: Any = LlamaForCausalLM.from_pretrained(place, trust_remote_code=False).eval()
    peer.generation_config.eos_token_id = None
    count = options.new_tokens
    figures = {}
    for batch in options.batches:
        prompts = random_prompts(vocabulary, batch, options.prompt_tokens)
        outputs: dict[str, list[list[int]]] = {}

        def ours(prompts: list[list[int]], outputs: Any) -> None:
            outputs["ours"] = generate(model, prompts, count, batch_size=len(prompts)).tokens

        def theirs(prompts: list[list[int]], outputs: Any) -> None:
            ids = torch.tensor(prompts)
            tokens = peer.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False
            )
            outputs["transformers"] = tokens[:, ids.shape[1] :].tolist()

        steps: dict[str, Step] = {
            "ours": partial(ours, prompts, outputs),
            "transformers": partial(theirs, prompts, outputs),
        }
        seconds = _timed(steps, options.repeats)
        different, unexplained = differences(
            model, prompts, outputs["ours"], outputs["transformers"]
        )
        if unexplained:
            raise RunError(
                f"{size}: tokens differ from transformers' without a near-tie: fix decoding"
            )
        figures[f"b{batch}"] = {
            "tokens_per_s": {
                name: round(batch * count / statistics.median(s), 1) for name, s in seconds.items()
            },
            "ratio": _ratio(seconds["transformers"], seconds["ours"]),
            "different_at_near_ties": different,
        }
        _log(f"plain {size} {vocabulary} b{batch}", figures[f"b{batch}"])
    return figures


def _memory(name: str, model: Decoder, options: argparse.Namespace) -> Figures:
    """Tokens per second of one prompt, and the share of the memory's bandwidth that they use."""
    plain = model.next_token_model().eval()
    numbers = torch.ones(options.read_mib * 2**18)
    # The prompt is a single token, so that all forwards are alike.
    prompt, count = [plain.vocab_size // 2], options.new_tokens
    steps: dict[str, Step] = {"reading": numbers.sum}
    for dtype in ("float32", "bfloat16"):
        weights = copy.deepcopy(plain).to(getattr(torch, dtype))
        steps[f"ours_{dtype}"] = partial(generate, weights, [prompt], count)
    with tempfile.TemporaryDirectory() as folder:
        for peer in filter(is_there, ("llama_cpp_float32", "llama_cpp_float16")):
            steps[peer] = partial(PEERS[peer](plain.float(), Path(folder)), prompt, count)
        seconds = _timed(steps, options.repeats)
    reading = [4 * numbers.numel() / time / 1e9 for time in seconds.pop("reading")]
    matrices = sum(p.numel() for p in plain.parameters())
    if plain.head.unembedding() is not plain.embedding.weight:
        matrices -= plain.embedding.weight.numel()  # of which a token reads one row
    figures: Figures = {"gigabytes_per_s": round(statistics.median(reading), 1)}
    for way, times in seconds.items():
        gigabytes = matrices * (4 if way.endswith("float32") else 2) / 1e9
        rates = [count / time for time in times]
        shares = [rate * gigabytes / most for rate, most in zip(rates, reading, strict=True)]
        figures[way] = {
            "tokens_per_s": round(statistics.median(rates), 1),
            "share": round(statistics.median(shares), 3),
        }
    _log(f"memory {name}", figures)
    return figures


def _cost(size: str, vocabulary: int, options: argparse.Namespace) -> Figures:
    """Milliseconds of a forward for one token, and what one for k tokens takes relative to it."""
    _, model = _model(size, vocabulary, "head=multi_token", f"head.n={options.heads}")
    figures = {}
    for batch in options.batches:
        prompts = random_prompts(vocabulary, batch, options.prompt_tokens)
        steps = {k: forward(model, prompts, k) for k in range(1, options.heads + 1)}
        seconds = forward_seconds(steps, options.forwards, random.Random(0), torch.device("cpu"))
        figures[f"b{batch}"] = {
            "milliseconds": round(1e3 * statistics.median(seconds[1]), 3),
            "ratio": {str(k): _ratio(s, seconds[1]) for k, s in seconds.items() if k > 1},
        }
        _log(f"cost {size} {vocabulary} b{batch}", figures[f"b{batch}"])
    return figures


def _run(options: argparse.Namespace) -> Figures:
    """Metrics of a trained model by test split."""
    config = read_config(options.run)
    model, tokenizer, _ = load_run(options.run, "last")
    data = build(config.dataset, "dataset")
    examples = data.load()
    evaluator = SelfSpeculation(
        options.batches,
        options.prompt_tokens,
        options.new_tokens,
        options.max_prompts,
        repeats=options.repeats,
    )
    figures = {}
    for split in data.test_splits:
        figures[split] = evaluator(Subject(model, tokenizer, "cpu"), examples[split]).metrics
        _log(f"run {split}", figures[split])
    return figures


def _timed(steps: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """Seconds of each step in each repeat, after a warm-up."""
    device = torch.device("cpu")
    in_turns(steps, 1, random.Random(0), device)
    return in_turns(steps, repeats, random.Random(1), device)


def _ratio(numerators: list[float], denominators: list[float]) -> float:
    ratios = (a / b for a, b in zip(numerators, denominators, strict=True))
    return round(statistics.median(ratios), 3)


def _log(name: str, figures: Figures) -> None:
    print(name, figures, file=sys.stderr, flush=True)
