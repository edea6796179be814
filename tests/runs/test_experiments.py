"""Every recipe's settings at the scales that need a GPU, with a model and data of no size."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from beyond_ce.configuration import compose
from beyond_ce.runs.experiment import run
from beyond_ce.runs.store import read_report

_DEEPMIND = ["train_per_difficulty=90", "validation_per_difficulty=2", "test_size=4"]
_CELLS = ["train_per_cell=12", "validation_per_cell=1", "test_per_cell=1"]
DATA = {
    "ntl/arithmetic": _DEEPMIND,
    "ntl/mathematics": _DEEPMIND,
    "ntl/rjokes": ["validation_size=5", "max_train=null", "max_test=null"],
    "ntl/multiplication": _CELLS,
    "ntl/efficiency": _CELLS,
}
MODEL = {"ntl/multiplication": "decoder_smallest", "ntl/efficiency": "decoder_smallest"}


@pytest.fixture(scope="module")
def jokes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rjokes")
    for stem in ("train", "dev", "test"):
        lines = [f"{i % 12}\t{stem} number {i} walks into a bar" for i in range(300)]
        (folder / f"{stem}.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("scale", ["gpu", "paper"])
@pytest.mark.parametrize("experiment", list(DATA))
def test_one_step_and_a_report(
    experiment: str, scale: str, jokes: Path, cache_dir: Path, tmp_path: Path
) -> None:
    config = compose(
        [
            f"experiment={experiment}/{scale}",
            "loss=ntl_was",
            f"model={MODEL.get(experiment, 't5_smallest')}",
            *("tokenizer.model=null", "tokenizer.vocab_size=400"),
            *(f"dataset.{each}" for each in DATA[experiment]),
            *([f"dataset.path={jokes}"] if experiment == "ntl/rjokes" else []),
            *(["probe.examples_per_task=1"] if experiment == "ntl/efficiency" else []),
            *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.num_threads=1"),
            *("trainer.max_steps=1", "trainer.evaluate_every=1", "trainer.progress=false"),
            *("evaluator.max_new_tokens=4", "evaluator.max_examples=40", "evaluator.num_beams=1"),
            f"results_dir={tmp_path}",
            f"cache_dir={cache_dir}",
        ]
    )
    report = read_report(run(config))
    assert report["steps"] == 1
    assert report["metrics"] and all(map(math.isfinite, report["metrics"].values()))
