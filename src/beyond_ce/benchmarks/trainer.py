"""Samples per second of our trainer and of transformers' Seq2SeqTrainer, on the CPU.

All train t5_tiny on the same sums, each pair once, from the same weights, with the same AdamW,
clipping and loss; none evaluates, logs or saves meanwhile. They differ in what comes with a
trainer: the batches (transformers' are random, or grouped by length), the T5, the loss's code, the
loop, and what our trainer asks of the memory allocator. So each has a process of its own. They take
turns. Figures are medians over the repeats; a ratio is the median of the ratios
within a repeat, with the lowest and the highest as its range.

On a machine that is busy with other work, read the ratios of CPU time, with --threads 1: threads
that wait for each other also use CPU time.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from omegaconf import DictConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from beyond_ce.batches.batch import IGNORED, Batch
from beyond_ce.batches.prompt_answer import PromptAnswerBatches
from beyond_ce.configuration import build, compose
from beyond_ce.runs.assembly import build_model
from beyond_ce.runs.preparation import Prepared, prepare
from beyond_ce.runs.provenance import provenance
from beyond_ce.training.objective import Objective

BAR = 1.2  # at least, relative to Seq2SeqTrainer with random batches
WARMUP_STEPS = 10  # before the timed ones
PEERS = {"seq2seq_trainer": "random", "seq2seq_trainer_grouped": "group_by_length"}
Times = tuple[float, float]  # wall clock and CPU time, in seconds
Run = tuple[list[Times], dict[str, float]]  # when each step ended; padding and validation loss


def main(args: list[str]) -> dict[str, Any]:
    """Run the benchmark and return its figures: samples per second, ratios, padding, losses."""
    parser = argparse.ArgumentParser(prog="benchmark.py trainer", description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="timed optimizer steps of a run")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each trainer")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(args)
    names = ["ours", *PEERS]
    speeds: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}  # samples per second of CPU time
    facts: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as cache_dir, ExitStack() as stack:
        config, prepared = _prepare(options, cache_dir)
        start_process = partial(get_context("spawn").Pool, 1)
        processes = {name: stack.enter_context(start_process()) for name in names}
        for repeat in range(1, options.repeats + 1):
            for name, process in processes.items():
                ends, facts[name] = process.apply(_run, (name, options, cache_dir))
                samples = options.steps * options.batch_size
                for kind, rates in enumerate((speeds, cpu)):
                    rates[name].append(samples / (ends[-1][kind] - ends[WARMUP_STEPS][kind]))
                print(f"{repeat} {name:24s} {speeds[name][-1]:6.0f} samples/s", file=sys.stderr)
        # Before training, both models must have the same loss on the same batch.
        objective, batches = _ours(config, prepared)
        first = batches.train(0, 0, 1, 1)
        peer_loss = _peer_loss(_peer(config, prepared), first)
        first_loss = {"ours": objective(first[0])[0].item(), "seq2seq_trainer": peer_loss}
    return {
        "samples_per_s": {name: round(statistics.median(s), 1) for name, s in speeds.items()},
        **_ratios(speeds, "ratio"),
        **_ratios(cpu, "cpu_ratio"),
        "bar": {"seq2seq_trainer": BAR},
        "padding": {name: round(fact["padding"], 4) for name, fact in facts.items()},
        "first_batch_loss": first_loss,
        "validation_loss": {name: fact["validation_loss"] for name, fact in facts.items()},
        "warmup_steps": WARMUP_STEPS,
        **vars(options),
        **provenance(),
    }


def _ratios(rates: dict[str, list[float]], name: str) -> dict[str, Any]:
    """Our rates relative to each peer's: `name`, the median over the repeats, and its range."""
    ratios = {p: [a / b for a, b in zip(rates["ours"], rates[p], strict=True)] for p in PEERS}
    return {
        name: {peer: round(statistics.median(r), 3) for peer, r in ratios.items()},
        f"{name}_range": {p: [round(min(r), 3), round(max(r), 3)] for p, r in ratios.items()},
    }


def _config(options: argparse.Namespace, cache_dir: str) -> DictConfig:
    steps = options.steps + WARMUP_STEPS
    # Our trainer logs, evaluates and saves at least once: after the last step, which is not timed.
    return compose(
        f"""
        dataset=arithmetic model=t5_tiny cache_dir={cache_dir}
        dataset.train_per_difficulty={math.ceil(steps * options.batch_size / 3)}
        dataset.validation_per_difficulty=100 dataset.test_size=10
        trainer.max_steps={steps} trainer.log_every={steps}
        trainer.evaluate_every={steps} trainer.checkpoint_every={steps}
        trainer.batch_size={options.batch_size} trainer.num_threads={options.threads}
        trainer.accelerator=cpu trainer.progress=false
        """.split()
    )


def _prepare(options: argparse.Namespace, cache_dir: str) -> tuple[DictConfig, Prepared]:
    """The config and its data, as many rows as the steps take."""
    config = _config(options, cache_dir)
    prepared = prepare(config)
    prepared.train = prepared.train.select(range(config.trainer.max_steps * options.batch_size))
    return config, prepared


def _run(name: str, options: argparse.Namespace, cache_dir: str) -> Run:
    """In a process of its own: what `name` measures."""
    config, prepared = _prepare(options, cache_dir)
    torch.set_num_threads(options.threads)
    if name == "ours":
        return _run_ours(config, prepared)
    return _run_peer(config, prepared, PEERS[name])


class Stopwatch(LambdaLR):
    """A constant learning rate. Both trainers step it after each optimizer step, and it appends the
    times to `ends`, whose first entry is from the call that the base class makes."""

    def __init__(self, ends: list[Times], optimizer: torch.optim.Optimizer, **_: int) -> None:
        self.ends = ends
        super().__init__(optimizer, lambda step: 1.0)

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        self.ends.append((time.perf_counter(), time.process_time()))

    after_step = step

    def after_evaluation(self, loss: float) -> None:
        """Does not depend on the validation loss."""


def _ours(config: DictConfig, prepared: Prepared) -> tuple[Objective, PromptAnswerBatches]:
    torch.manual_seed(config.seed)
    model = build_model(config, prepared.tokenizer)
    loss = build(config.loss, "loss", number_values=prepared.tokenizer.number_values())
    data = prepared.train, prepared.validation, config.trainer.batch_size, config.seed
    return Objective(model, loss), PromptAnswerBatches(model, *data)


def _run_ours(config: DictConfig, prepared: Prepared) -> Run:
    trainer = build(config.trainer, "trainer")
    objective, batches = _ours(config, prepared)
    ends: list[Times] = []
    optimizer, watch = build(config.optimizer, "optimizer"), partial(Stopwatch, ends)
    with tempfile.TemporaryDirectory() as folder:
        result = trainer.fit(objective, optimizer, watch, batches, Path(folder), lambda *_: None)
    seen = (batches.train(step, 0, 1, 1)[0] for step in range(trainer.max_steps))
    return ends, {
        "padding": _padding((batch.attention_mask, batch.labels) for batch in seen),
        "validation_loss": result.last_loss,
    }


def _peer(config: DictConfig, prepared: Prepared) -> Any:
    """transformers' T5 of the same dimensions; the same seed gives it the same weights."""
    names = ("d_model", "d_ff", "d_kv", "num_heads", "num_layers")
    settings: dict[str, Any] = {name: config.model[name] for name in names}
    settings["vocab_size"] = prepared.tokenizer.vocab_size
    settings["dropout_rate"] = config.model.dropout
    settings["pad_token_id"] = settings["decoder_start_token_id"] = prepared.tokenizer.pad_id
    torch.manual_seed(config.seed)
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**settings))


def _run_peer(config: DictConfig, prepared: Prepared, sampling: str) -> Run:
    model, ids = _peer(config, prepared), prepared.tokenizer
    rows = prepared.train.map(
        lambda row: {"input_ids": [*row["prompt_ids"], ids.eos_id], "labels": row["answer_ids"]},
    )
    # The collator takes the padding token from a tokenizer.
    pad = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": ids.pad_id}, "<pad>"))
    padder = transformers.PreTrainedTokenizerFast(tokenizer_object=pad, pad_token="<pad>")
    collator = transformers.DataCollatorForSeq2Seq(padder, model=model)
    optimizer = build(config.optimizer, "optimizer")(model)
    ends: list[Times] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.Seq2SeqTrainingArguments(
            output_dir=folder,
            max_steps=config.trainer.max_steps,
            per_device_train_batch_size=config.trainer.batch_size,
            max_grad_norm=config.trainer.gradient_clip,
            train_sampling_strategy=sampling,
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
        )
        trainer = transformers.Seq2SeqTrainer(
            model, settings, collator, rows, optimizers=(optimizer, Stopwatch(ends, optimizer))
        )
        trainer.remove_callback(transformers.PrinterCallback)  # stdout is for the figures
        trainer.train()
        seen = list(trainer.get_train_dataloader())
    return ends, {
        "padding": _padding((batch["attention_mask"], batch["labels"]) for batch in seen),
        "validation_loss": _peer_loss(model, _ours(config, prepared)[1].validation(0, 1)),
    }


@torch.no_grad()
def _peer_loss(model: Any, batches: list[Batch]) -> float:
    """Mean over all labels of our batches."""
    model.eval()
    losses = [model(b.input_ids, b.attention_mask.long(), labels=b.labels).loss for b in batches]
    labels = torch.tensor([(batch.labels != IGNORED).sum() for batch in batches])
    return float(torch.stack(losses) @ (labels / labels.sum()))


def _padding(batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The share of padding in attention masks and labels, encoder and decoder alike."""
    used = [torch.cat([m.flatten() != 0, (y != IGNORED).flatten()]) for m, y in batches]
    return 1 - torch.cat(used).float().mean().item()
