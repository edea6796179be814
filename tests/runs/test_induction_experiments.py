"""The recipes on induction at every scale, with a model and data of no size."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from beyond_ce.configuration import compose
from beyond_ce.data import GeneratedStories
from beyond_ce.runs.experiment import run
from beyond_ce.runs.store import read_report
from beyond_ce.training.records import read_records

SIZES = {
    "smoke": [],
    "cpu": ["stories=300"],
    "gpu": ["max_documents=300"],
    "paper": ["max_documents=300"],
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    shares = {"validation_share": 0.1, "test_share": 0.1}
    settings = {"stories": 300, "names": 30, "seed": 0, "sequence_length": 32}
    stories = GeneratedStories(cache_dir=folder / "cache", **settings, **shares).documents()
    lines = [json.dumps({"text": document.text}) for document in stories]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("scale", list(SIZES))
@pytest.mark.parametrize("experiment", ["mtp/induction", "mtp/induction_books"])
def test_a_few_steps_and_a_report(
    experiment: str, scale: str, texts: Path, cache_dir: Path, tmp_path: Path
) -> None:
    books = experiment.endswith("books")
    stories = "dataset.main." if books else "dataset."
    from_files = scale in ("gpu", "paper")
    config = compose(
        [
            f"experiment={experiment}/{scale}",
            *(f"{stories}{each}" for each in SIZES[scale]),
            *(f"{stories}{name}=0.1" for name in ("test_share", "validation_share")),
            *([f"{stories}path={texts}"] if from_files else []),
            *([f"dataset.other.path={texts}"] if from_files and books else []),
            *(
                "model=decoder_smallest_5_layers",
                "model.max_length=256",
                "tokenizer.vocab_size=400",
            ),
            *("dataset.sequence_length=64", "evaluator.context=256", "evaluator.stories=10"),
            *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.num_threads=1"),
            *("trainer.max_steps=4", "trainer.evaluate_every=4", "trainer.progress=false"),
            *("trainer.batch_size=4", "trainer.accumulate=2", "probe.every=2"),
            f"results_dir={tmp_path}",
            f"cache_dir={cache_dir}",
        ]
    )
    folder = run(config)
    metrics = read_report(folder)["metrics"]
    assert all(map(math.isfinite, metrics.values()))
    assert metrics["test/stories"] == 10 and metrics["test/occurrences"] > 20
    assert 0 <= metrics["test/induction_accuracy"] <= metrics["test/induction_accuracy@oracle"]
    assert metrics["test/step@held_out"] in (2, 4)
    assert metrics["test/known_tokens"] == 1 or not config.evaluator.known_tokens
    probes = [r for r in read_records(folder / "metrics.jsonl") if len(r) == 3 and "train" not in r]
    last = probes[-1]
    assert last["step"] == 4
    assert last["probe/induction_accuracy@test"] == metrics["test/induction_accuracy"]
