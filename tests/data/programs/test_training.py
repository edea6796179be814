"""Runs that train on programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from beyond_ce.configuration import build, compose
from beyond_ce.data import Problem
from beyond_ce.errors import UsageError
from beyond_ce.runs.experiment import run
from beyond_ce.runs.preparation import prepare
from beyond_ce.runs.store import read_report

SIZES = {
    "code_tasks": ("train_size=60", "validation_size=8", "test_size=8", "longest=2"),
    "contest_tasks": ("train_size=20", "validation_size=4", "test_size=8", "longest=2"),
}


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., DictConfig]:
    """`config(name, packed, ...)`: two steps of a decoder of no size on generated programs."""

    def make(name: str, packed: bool, *overrides: str) -> DictConfig:
        prefix = "dataset.data" if packed else "dataset"
        length = ["dataset.sequence_length=64"] if packed else []
        return compose(
            [
                *(f"dataset={name}{'_packed' * packed}", *length),
                *(f"{prefix}.{size}" for size in SIZES[name]),
                *("tokenizer=byte", "model=decoder_tiny", "head=multi_token", "head.n=2"),
                *(
                    "model.dim=16",
                    "model.num_layers=3",
                    "model.num_heads=2",
                    "model.max_length=320",
                ),
                *("trainer.accelerator=cpu", "trainer.max_steps=2", "trainer.evaluate_every=2"),
                *("trainer.checkpoint_every=2", "trainer.batch_size=2", "trainer.num_threads=1"),
                *(
                    "model.max_length=320",
                    "trainer.progress=false",
                    f"results_dir={tmp_path / 'results'}",
                ),
                f"cache_dir={tmp_path / 'cache'}",
                *overrides,
            ]
        )

    return make


@pytest.mark.parametrize("name", SIZES)
def test_a_run_on_documents(name: str, config: Callable[..., DictConfig]) -> None:
    folder = run(config(name, True, "evaluator=held_out", "evaluator.context=64"))
    metrics = read_report(folder)["metrics"]
    assert 0 < metrics["test/bits_per_byte"] < 20


@pytest.mark.parametrize("name", SIZES)
def test_a_run_on_prompts_and_answers(name: str, config: Callable[..., DictConfig]) -> None:
    overrides = ["evaluator=text_overlap", "evaluator.max_new_tokens=4", "evaluator.max_examples=2"]
    folder = run(config(name, False, *overrides))
    assert any(key.startswith("test/") for key in read_report(folder)["metrics"])


@pytest.mark.parametrize("packed", [False, True])
def test_no_tokenizer_is_fitted_to_tests(packed: bool, config: Callable[..., DictConfig]) -> None:
    from beyond_ce.runs.preparation import _texts

    data = build(config("code_tasks", packed).dataset, "dataset")
    splits = data.load()
    texts = list(_texts(splits["test"]))
    assert len(texts) == len(splits["test"]) * (1 if packed else 2)
    assert not set(texts) & set(splits["test"]["problem"])
    assert [Problem.from_json(text) for text in splits["test"]["problem"]] == data.problems("test")


def test_data_that_are_only_for_testing_are_refused(tmp_path: Path) -> None:
    row = {
        **{"task_id": "one", "prompt": "def f():\n", "entry_point": "f"},
        **{"canonical_solution": "    return 1\n", "test": "def check(f): assert f()\n"},
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    config = compose(
        ["dataset=humaneval", f"dataset.path={tmp_path}", f"cache_dir={tmp_path / 'cache'}"]
    )
    with pytest.raises(UsageError, match="dataset humaneval has no examples to train and valid"):
        prepare(config)
