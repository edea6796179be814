"""GSM8K and MultiRC from files to a report, at every scale's settings with a model of no size."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from beyond_ce.configuration import compose
from beyond_ce.runs.experiment import run
from beyond_ce.runs.store import read_report

SMALL = {
    "ntl/gsm8k": ["dataset.validation_size=8", "dataset.max_train=null", "dataset.max_test=4"],
    "ntl/multirc": ["dataset.validation_size=2"],
}
METRICS = {
    "ntl/gsm8k": {"accuracy", "invalid", "no_marker", "mass_at_0", "expected_distance"},
    "ntl/multirc": {"token_accuracy", "bleu", "rouge1", "exact_match", "loss/ce"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders gsm8k and multirc with files of the published form and a few dozen rows."""
    root = tmp_path_factory.mktemp("data")
    problems = [
        {
            "question": f"{i} eggs and {i} more?",
            "answer": f"{i}+{i} = <<{i}+{i}={2 * i}>>\n#### {i}",
        }
        for i in range(50)
    ]
    passages = [
        {
            "idx": i,
            "passage": {
                "text": f"In {1900 + i} there were {i} of them.",
                "questions": [
                    {
                        "idx": i,
                        "question": "How many?",
                        "answers": [{"text": f"{i}", "label": 1}, {"text": "none", "label": 0}],
                    }
                ],
            },
        }
        for i in range(50)
    ]
    for name, splits, rows in (
        ("gsm8k", ("train", "test"), problems),
        ("multirc", ("train", "val"), passages),
    ):
        (root / name).mkdir()
        for split in splits:
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (root / name / f"{split}.jsonl").write_text(lines)
    return root


@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu", "paper"])
@pytest.mark.parametrize("experiment", list(METRICS))
def test_one_step_and_a_report(
    experiment: str, scale: str, data: Path, cache_dir: Path, tmp_path: Path
) -> None:
    config = compose(
        [
            f"experiment={experiment}/{scale}",
            "loss=ntl_was",
            "model=t5_smallest",
            "tokenizer.model=null",
            "tokenizer.vocab_size=400",
            f"dataset.path={data / experiment.removeprefix('ntl/')}",
            *SMALL[experiment],
            *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.num_threads=1"),
            *("trainer.max_steps=1", "trainer.evaluate_every=1", "trainer.progress=false"),
            *("evaluator.max_new_tokens=4", "evaluator.max_examples=4"),
            f"results_dir={tmp_path}",
            f"cache_dir={cache_dir}",
        ]
    )
    metrics = read_report(run(config))["metrics"]
    assert {f"test/{name}" for name in METRICS[experiment]} <= set(metrics)
    assert all(math.isfinite(value) for value in metrics.values())
