"""Batches of data that never end, and runs on them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from omegaconf import DictConfig
from same_runs import metrics, records

from beyond_ce.batches.endless import EndlessBatches, EndlessTokens
from beyond_ce.batches.order import Endless
from beyond_ce.batches.prompt_answer import token_columns
from beyond_ce.configuration import compose
from beyond_ce.data import EndlessData, Example
from beyond_ce.errors import UsageError
from beyond_ce.models import Decoder
from beyond_ce.models.heads import LMHead
from beyond_ce.runs.experiment import run
from beyond_ce.runs.store import read_report
from beyond_ce.tokenizers import ByteTokenizer

ROWS = 24


class Counted(EndlessData):
    """Row i of block n of stream s is "s n i" with some dots; `made` lists the blocks."""

    block_size = ROWS

    def __init__(self) -> None:
        self.made: list[int] = []

    def block(self, stream: int, number: int) -> list[Example]:
        self.made.append(number)
        return [Example(f"{stream} {number} {i} {'.' * (i * 7 % 5)}", str(i)) for i in range(ROWS)]

    def _definition(self) -> dict:
        return {}

    def _splits(self):
        raise NotImplementedError


def batches(data: EndlessData, size: int = 4, seed: int = 0, context: int = 64) -> EndlessBatches:
    tokenizer = ByteTokenizer()
    model = Decoder(258, tokenizer.pad_id, tokenizer.eos_id, LMHead, 8, 1, 2, context)
    columns = token_columns({"prompt": ["ab"], "answer": ["c"]}, tokenizer)
    validation = datasets.Dataset.from_dict(columns)
    return EndlessBatches(model, EndlessTokens(data, tokenizer, seed), validation, size, seed)


def rows(batch) -> list[tuple[int, ...]]:
    """Stream, block and place of every row of a batch."""
    texts = [ByteTokenizer().decode(ids) for ids in batch.input_ids.tolist()]
    return [tuple(map(int, text.split()[:3])) for text in texts]


@pytest.mark.parametrize("size", [1, 4, 5, ROWS])
def test_every_row_is_fresh(size: int) -> None:
    made = batches(Counted(), size)
    steps = 3 * (ROWS // size)
    seen = [row for step in range(steps) for row in rows(made.train(step, 0, 1, 1)[0])]
    assert len(set(seen)) == len(seen) == steps * size
    assert [block for _, block, _ in seen] == sorted(block for _, block, _ in seen)
    assert {block for _, block, _ in seen} == {0, 1, 2}


def test_a_step_depends_on_seed_and_number_alone() -> None:
    forward, jumping = batches(Counted(), seed=3), batches(Counted(), seed=3)
    for step in (13, 2, 40, 13, 0):
        one, two = (list(map(rows, each.train(step, 0, 1, 2))) for each in (forward, jumping))
        assert one == two
        ranks = [rows(forward.train(step, rank, 2, 1)[0]) for rank in range(2)]
        assert sorted(itertools.chain(*ranks)) == sorted(itertools.chain(*one))
        forward.train(step + 1, 0, 1, 1)
    other = batches(Counted(), seed=4)
    assert rows(other.train(0, 0, 1, 1)[0]) != rows(forward.train(0, 0, 1, 1)[0])
    assert {stream for stream, *_ in rows(other.train(0, 0, 1, 1)[0])} == {4}


def test_each_block_is_made_once_on_the_way() -> None:
    data = Counted()
    made = batches(data)
    for step in range(3 * ROWS // 4):
        made.train(step, 0, 1, 1)
    assert data.made == [0, 1, 2]
    described = [int(row) for row in re.findall(r"\d+", made.describe(12))][:4]
    assert all(2 * ROWS <= row < 3 * ROWS for row in described)


def test_lengths_are_grouped_within_a_block() -> None:
    lengths = [np.random.default_rng(n).integers(1, 99, (640, 2)) for n in range(2)]
    order = Endless(lengths.__getitem__, 16, seed=0, pool=40)
    for step in (3, 50):
        block, chosen = step // 40, order[step] - 640 * (step // 40)
        assert np.ptp(lengths[block][chosen][:, 0]) < 12


def test_what_does_not_fit_is_refused_at_the_start() -> None:
    with pytest.raises(UsageError, match="the training split has only 24 rows: lower it"):
        batches(Counted(), ROWS + 1)
    with pytest.raises(UsageError, match="exceeds the model's context of 8"):
        batches(Counted(), context=8)


@pytest.mark.parametrize("head", [["head=lm"], ["head.n=4", "dataset.pause_tokens=5"]])
def test_an_interrupted_run_ends_like_any_other(
    head: list[str],
    cache_dir: Path,
    tmp_path: Path,
    run_in_two: Callable[[DictConfig], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With several blocks on the way."""
    monkeypatch.setattr("beyond_ce.data.Polynomials.block_size", 16)

    def config(results: str) -> DictConfig:
        steps = [f"trainer.{each}" for each in ("max_steps=7", "checkpoint_every=3", "log_every=1")]
        folders = [f"results_dir={tmp_path / results}", f"cache_dir={cache_dir}"]
        fixed = ["experiment=mtp/polynomials/smoke", "trainer.progress=false"]
        return compose([*fixed, *head, *steps, *folders])

    whole, parts = run(config("whole")), run_in_two(config("parts"))
    assert records(whole) == records(parts)
    assert metrics(whole) == metrics(parts)
    found = read_report(whole)["metrics"]
    assert found["test/examples"] == 30
    for m in range(1, 7):
        domain = "in_domain" if m <= 3 else "out_of_domain"
        assert found[f"test/examples@{domain}/m={m}"] == 5
        assert 0 <= found[f"test/accuracy@{domain}/m={m}"] <= 1
