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


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    lines = []
    for i in range(200):
        text = f"def f{i}(x):\n    return x + {i}\n\n" * 4
        lines.append(json.dumps({"content": text, "text": text}))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("scale", ["gpu", "paper"])
@pytest.mark.parametrize(
    "experiment", ["mtp/code", "mtp/prose", "mtp/bytes", "mtp/decoding", "mtp/architectures"]
)
def test_one_step_and_a_report(
    experiment: str, scale: str, documents: Path, cache_dir: Path, tmp_path: Path
) -> None:
    config = compose(
        [
            f"experiment={experiment}/{scale}",
            "model=decoder_small_5_layers",
            *("model.num_layers=5", "model.max_length=32"),
            *([] if experiment == "mtp/bytes" else ["tokenizer.vocab_size=400"]),
            *(f"dataset.path={documents}", "dataset.sequence_length=32"),
            *("dataset.test_share=0.1", "dataset.validation_share=0.1"),
            *("trainer.accelerator=cpu", "trainer.devices=1", "trainer.strategy=auto"),
            *("trainer.precision=32-true", "trainer.num_threads=1"),
            *("trainer.max_steps=1", "trainer.evaluate_every=1", "trainer.progress=false"),
            *("trainer.batch_size=4", "trainer.accumulate=2"),
            *("evaluator.context=32", "evaluator.max_tokens=320"),
            *(f"evaluator.{each}" for each in EVALUATOR.get(experiment, [])),
            f"results_dir={tmp_path}",
            f"cache_dir={cache_dir}",
        ]
    )
    report = read_report(run(config))
    split = "prose" if experiment == "mtp/prose" else "code"
    assert report["steps"] == 1
    assert f"{split}/bits_per_byte" in report["metrics"]
    assert all(map(math.isfinite, report["metrics"].values()))
