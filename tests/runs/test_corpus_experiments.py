"""The recipes on corpora at the scales that need a GPU, with a model and data of no size."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from beyond_ce.configuration import compose
from beyond_ce.runs.experiment import run
from beyond_ce.runs.store import read_report

DECODED = ["batch_sizes=[1]", "heads=[1,2]", "prompt_tokens=8", "max_new_tokens=8", "repeats=1"]
EVALUATOR = dict.fromkeys(("mtp/code", "mtp/prose", "mtp/bytes", "mtp/decoding"), DECODED)
BENCHMARKS = ("mtp/code_tasks", "mtp/code_tasks_bytes", "mtp/architectures")
SAMPLED = ["temperatures=[0.5]", "samples=2", "ks=[1,2]", "max_new_tokens=4", "max_examples=1"]
ROWS = {
    "humaneval": {
        "task_id": "HumanEval/0",
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "canonical_solution": "    return x\n",
        "test": "def check(candidate):\n    assert candidate(1) == 1\n",
    },
    "mbpp": {
        "task_id": 11,
        "text": "Copy.",
        "code": "def f(x):\n    return x\n",
        "test_list": ["assert f(1) == 1"] * 3,
        "test_setup_code": "",
        "challenge_test_list": [],
    },
    "apps": {
        "problem_id": 1,
        "question": "Echo.",
        "solutions": json.dumps(["print(input())"]),
        "input_output": json.dumps({"inputs": ["a\n"], "outputs": ["a\n"]}),
        "difficulty": "introductory",
        "starter_code": "",
    },
}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    lines = []
    for i in range(200):
        text = f"def f{i}(x):\n    return x + {i}\n\n" * 4
        lines.append(json.dumps({"content": text, "text": text}))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that make each benchmark one problem."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for name, row in ROWS.items():
        (folder / name).mkdir()
        (folder / name / "test.jsonl").write_text(json.dumps(row) + "\n")
    return [f"evaluator.evaluators.{name}.data.path={folder / name}" for name in ROWS]


@pytest.mark.parametrize("scale", ["gpu", "paper"])
@pytest.mark.parametrize(
    "experiment", ["mtp/code", "mtp/prose", "mtp/bytes", "mtp/decoding", *BENCHMARKS]
)
def test_one_step_and_a_report(
    experiment: str,
    scale: str,
    documents: Path,
    benchmarks: list[str],
    cache_dir: Path,
    tmp_path: Path,
) -> None:
    sampled = experiment in BENCHMARKS
    config = compose(
        [
            f"experiment={experiment}/{scale}",
            "model=decoder_small_5_layers",
            *("model.num_layers=5", f"model.max_length={256 if sampled else 32}"),
            *([] if "bytes" in experiment else ["tokenizer.vocab_size=400"]),
            *(f"dataset.path={documents}", "dataset.sequence_length=32"),
            *("dataset.test_share=0.1", "dataset.validation_share=0.1"),
            *("trainer.accelerator=cpu", "trainer.devices=1", "trainer.strategy=auto"),
            *("trainer.precision=32-true", "trainer.num_threads=1"),
            *("trainer.max_steps=1", "trainer.evaluate_every=1", "trainer.progress=false"),
            *("trainer.batch_size=4", "trainer.accumulate=2"),
            *("evaluator.context=32", "evaluator.max_tokens=320"),
            *(f"evaluator.{each}" for each in SAMPLED if sampled),
            *(benchmarks if sampled else ()),
            *(f"evaluator.{each}" for each in EVALUATOR.get(experiment, [])),
            f"results_dir={tmp_path}",
            f"cache_dir={cache_dir}",
        ]
    )
    report = read_report(run(config))
    split = "prose" if experiment == "mtp/prose" else "code"
    split = "test" if experiment.startswith("mtp/code_tasks") else split
    assert report["steps"] == 1
    assert f"{split}/bits_per_byte" in report["metrics"]
    assert all(map(math.isfinite, report["metrics"].values()))
    for name in ROWS if sampled else ():
        assert report["metrics"][f"{split}/{name}/problems"] == 1
        assert f"{split}/{name}/pass@2@oracle" in report["metrics"]
