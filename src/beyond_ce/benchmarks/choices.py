"""Seconds that questions with choices take, ours and lm-evaluation-harness's own `hf` model.

Both answer the same questions with the same weights in float32, by the harness's own tasks and
scores. They take turns; a ratio is the median of the ratios within a repeat. The time includes the
making of prompts, which is the harness's for both. Every score has to be equal. A log-likelihood of
many tokens may differ by more than 1e-4 nats, as float32 rounds each; how many do is counted.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from functools import partial
from typing import Any

import torch

from beyond_ce.data import Questions
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import Subject
from beyond_ce.profiling import Step, in_turns, median_ratio
from beyond_ce.runs.loading import load
from beyond_ce.runs.provenance import provenance
from beyond_ce.storage.hub import checkpoint_folder

BAR = 1.0  # at least, relative to the harness's own model
TOLERANCE = 1e-4  # nats
_SEED = 1234  # of the examples in front of questions; here there are none

Figures = dict[str, Any]


def main(args: list[str]) -> Figures:
    """Run the benchmark and return its figures: seconds, ratios, scores and their differences."""
    parser = argparse.ArgumentParser(prog="benchmark.py choices", description=__doc__)
    parser.add_argument(
        "--model",
        default="HuggingFaceTB/SmolLM2-135M-Instruct",
        help="a folder in transformers' layout, or a name on the Hugging Face hub",
    )
    parser.add_argument("--tasks", nargs="+", default=["arc_challenge", "hellaswag", "piqa"])
    parser.add_argument("--questions", type=int, default=300, help="of each task")
    parser.add_argument("--batch-size", type=int, default=16, help="requests, for both")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cache-dir", default=".cache")
    options = parser.parse_args(args)
    try:
        from lm_eval.evaluator import evaluate
        from lm_eval.models.huggingface import HFLM

        from beyond_ce.evaluation.harness_loading import load_tasks, quiet
        from beyond_ce.evaluation.harness_model import HarnessModel
    except ModuleNotFoundError as error:
        raise UsageError(
            f"this benchmark needs lm-evaluation-harness, and there is no {error.name}: "
            "pip install 'beyond-ce[harness]'"
        ) from error
    torch.set_num_threads(options.threads)
    folder = checkpoint_folder(options.model, "--model")
    loaded = load(folder)
    model = loaded.model.float().eval()
    subject = Subject(model, loaded.tokenizer, "cpu", None, loaded.start, loaded.end_ids)
    models = {
        "ours": HarnessModel(subject, options.batch_size, max_new_tokens=1),
        "hf": HFLM(
            pretrained=str(folder),
            batch_size=options.batch_size,
            device="cpu",
            dtype="float32",
            add_bos_token=bool(loaded.start),
        ),
    }
    figures: Figures = {}
    for task in options.tasks:
        results: dict[str, Any] = {}

        def answer(name: str, task: str, results: dict[str, Any]) -> None:
            questions = Questions([task], {}, options.cache_dir)
            with quiet():
                tasks, asked = load_tasks(questions, options.questions, _SEED)
                results[name] = evaluate(models[name], tasks, samples=asked, bootstrap_iters=0)

        steps: dict[str, Step] = {name: partial(answer, name, task, results) for name in models}
        draw = random.Random(0)
        seconds = in_turns(steps, options.repeats, draw, torch.device("cpu"))
        figures[task] = {
            "seconds": {name: round(statistics.median(s), 2) for name, s in seconds.items()},
            "ratio": round(median_ratio(seconds["hf"], seconds["ours"]), 3),
            "scores": {name: _scores(results[name]["results"][task]) for name in models},
            **_differences(results["ours"]["samples"][task], results["hf"]["samples"][task]),
        }
        print(task, figures[task], file=sys.stderr)
    scores = [figures[task]["scores"] for task in options.tasks]
    return {
        **figures,
        "equal": all(each["ours"] == each["hf"] for each in scores),
        "bar": BAR,
        **vars(options),
        **provenance(),
    }


def _scores(results: dict[str, Any]) -> dict[str, float]:
    return {
        name.removesuffix(",none"): float(value)
        for name, value in results.items()
        if name.endswith(",none") and "stderr" not in name
    }


def _differences(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> Figures:
    """How many log-likelihoods were compared, the largest difference in nats, and how many of them
    are beyond the tolerance."""

    def nats(samples: list[dict[str, Any]]) -> list[float]:
        return [response[0] for row in samples for response in row["filtered_resps"]]

    differences = [abs(a - b) for a, b in zip(nats(ours), nats(theirs), strict=True)]
    return {
        "questions": len(ours),
        "requests": len(differences),
        "largest_difference": max(differences),
        "beyond_tolerance": sum(difference > TOLERANCE for difference in differences),
    }
