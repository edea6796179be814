"""Tokenized splits, and runs on the numbers beside them."""

from __future__ import annotations

import errno
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
from datasets.arrow_writer import ArrowWriter
from omegaconf import DictConfig

from beyond_ce.batches.prompt_answer import tokenize
from beyond_ce.errors import RunError, UsageError
from beyond_ce.runs.experiment import run
from beyond_ce.tokenizers import ByteTokenizer, DigitTokenizer, Tokenizer, XValTokenizer

XVAL = ["tokenizer=xval", "model=xval_smallest", "head=xval", "loss=xval"]
VALUE = ["head=regression", "loss=mse", "head.scale=100"]


SPLIT = datasets.Dataset.from_dict({"prompt": ["1 + 1?", "2 + 1?"], "answer": ["2", "3"]})


def fitted(kind: type, texts: list[str]) -> Tokenizer:
    tokenizer = kind(vocab_size=400)
    tokenizer.train(texts)
    return tokenizer


def test_columns_of_numbers(tmp_path: Path) -> None:
    split = datasets.Dataset.from_dict(
        {"prompt": ["What is 1 - 3?", "Why?"], "answer": ["It is -2", "Because"]}
    )
    texts = [*split["prompt"], *split["answer"]]
    digit = tokenize(split, fitted(DigitTokenizer, texts), tmp_path, "key")
    assert digit["answer_number"][0] == -2.0 and math.isnan(digit["answer_number"][1])
    assert "prompt_numbers" not in digit.column_names
    xval = tokenize(split, fitted(XValTokenizer, texts), tmp_path, "key")
    for ids, numbers in (("prompt_ids", "prompt_numbers"), ("answer_ids", "answer_numbers")):
        for row in xval:
            assert len(row[ids]) == len(row[numbers])
    kept = [[x for x in row if not math.isnan(x)] for row in xval["prompt_numbers"]]
    assert kept == [[1.0, 3.0], []]
    assert xval["answer_numbers"][0][-2] == -2.0


@pytest.mark.parametrize("choices", [XVAL, VALUE])
def test_a_run_ends_with_numbers(
    smoke_config: Callable[..., DictConfig], choices: list[str]
) -> None:
    folder = run(smoke_config(*choices))
    metrics = json.loads((folder / "report.json").read_text())["metrics"]
    lines = pd.read_parquet(folder / "evaluation" / "interpolate.parquet")
    assert not lines["prediction"].str.contains("e|inf|nan").any()
    if choices is VALUE:
        assert not lines["invalid"].any()
        assert math.isfinite(metrics["interpolate/mae"])


def test_an_interrupted_regression_ends_as_if_it_had_not_been(
    smoke_config: Callable[..., DictConfig],
    run_in_two: Callable[[DictConfig], Path],
    tmp_path: Path,
) -> None:
    settings = [*VALUE, "trainer.max_steps=8", "trainer.checkpoint_every=3"]
    whole = run(smoke_config(*settings, "trainer.accumulate=1"))
    resumed = run_in_two(smoke_config(*settings, f"results_dir={tmp_path / 'second'}"))
    metrics = [
        json.loads((folder / "report.json").read_text())["metrics"] for folder in (whole, resumed)
    ]
    assert metrics[0] == metrics[1]


def test_answers_that_do_not_fit_fail_before_training(
    smoke_config: Callable[..., DictConfig],
) -> None:
    with pytest.raises(UsageError, match=r"2 tokens.*model.answer_slots=1"):
        run(smoke_config(*XVAL, "model.answer_slots=1"))


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ArrowWriter.write_batch

    def full(self: ArrowWriter, *arguments: Any, **settings: Any) -> None:
        write(self, *arguments, **settings)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ArrowWriter, "write_batch", full)
        with pytest.raises(RunError, match=r"cannot write the tokens to .*No space.*cache_dir"):
            tokenize(SPLIT, ByteTokenizer(), tmp_path, "key")
    assert [p for p in (tmp_path / "tokens").iterdir() if p.suffix != ".lock"] == []
    assert len(tokenize(SPLIT, ByteTokenizer(), tmp_path, "key")) == len(SPLIT)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    program = f"""
import os, signal
import datasets
from pathlib import Path
from beyond_ce.batches.prompt_answer import tokenize
from beyond_ce.tokenizers import ByteTokenizer

class Deadly(ByteTokenizer):
    def encode(self, texts):
        if any("4" in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(texts)

split = datasets.Dataset.from_dict({{"prompt": ["1"] * 1500 + ["4"], "answer": ["2"] * 1501}})
Deadly.__name__ = "ByteTokenizer"  # the same place in the cache
tokenize(split, Deadly(), Path({str(tmp_path)!r}), "key")
"""
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    tokens = tmp_path / "tokens"
    assert len([path for path in tokens.iterdir() if path.suffix != ".lock"]) == 1
    tokenize(SPLIT, ByteTokenizer(), tmp_path, "key")
    assert {path.suffix for path in tokens.iterdir()} <= {".arrow", ".lock"}


def test_what_a_process_left_that_was_killed_after_its_work_is_removed(tmp_path: Path) -> None:
    tokenize(SPLIT, ByteTokenizer(), tmp_path, "key")
    before = sorted((tmp_path / "tokens").iterdir())
    (path,) = (tmp_path / "tokens").glob("*.arrow")
    (tmp_path / "tokens" / f"{path.name}.partial").mkdir()
    assert len(tokenize(SPLIT, ByteTokenizer(), tmp_path, "key")) == len(SPLIT)
    assert sorted((tmp_path / "tokens").iterdir()) == before
