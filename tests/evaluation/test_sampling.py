"""Samples are the same however they are batched, interrupted and gone on with."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from kill_points import _Killer

from beyond_ce.data.programs.problem import FunctionTests, Problem
from beyond_ce.errors import RunError
from beyond_ce.evaluation import Subject, sampling
from beyond_ce.evaluation.sampling import Sampling, draw_samples, weights_digest
from beyond_ce.generation import generate
from beyond_ce.models import CausalLM, Decoder
from beyond_ce.models.heads import LMHead, MultiTokenHead, SharedUnembedding, TransformerBlocks
from beyond_ce.tokenizers import ByteTokenizer

TOKENIZER = ByteTokenizer()
TESTS = FunctionTests("assert True", None)
PROBLEMS = [
    Problem("b", "def f(x):\n", TESTS, stop=("\n", "a")),
    Problem("a", "def much_longer(x, y, z):\n    ", TESTS, stop=("q",)),
    Problem("c", "# 1\n", TESTS),
]
PLAN = Sampling([0.5, 1.0], samples=5, max_new_tokens=20, top_p=0.9, batch_size=4)


def decoder(seed: int = 0, max_length: int = 96, head: Any = LMHead) -> Decoder:
    torch.manual_seed(seed)
    model = Decoder(
        TOKENIZER.vocab_size, TOKENIZER.pad_id, TOKENIZER.eos_id, partial(head), dim=16,
        num_layers=3, num_heads=2, max_length=max_length, multiple_of=8,
    )  # fmt: skip
    torch.nn.init.normal_(model.head.unembedding(), std=0.7)
    return model.double().eval()


def subject(model: Any = None) -> Subject:
    return Subject(decoder() if model is None else model, TOKENIZER, "cpu")


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


def test_there_is_a_line_for_every_sample(tmp_path: Path) -> None:
    frame = draw_samples(subject(), PROBLEMS, PLAN, tmp_path)
    assert list(frame.columns) == ["problem", "temperature", "sample", "completion", "finished"]
    expected = [(t, p.id, n) for t in (0.5, 1.0) for p in PROBLEMS for n in range(5)]
    found = frame[["temperature", "problem", "sample"]].itertuples(index=False, name=None)
    assert list(found) == expected
    assert frame["completion"].nunique() > 15


def test_a_completion_ends_before_a_stop_text_or_an_end_token(tmp_path: Path) -> None:
    many = replace(PLAN, samples=60, max_new_tokens=60, batch_size=200)
    frame = draw_samples(subject(), PROBLEMS, many, tmp_path).set_index("problem")
    for problem in PROBLEMS:
        rows = frame.loc[problem.id]
        assert not any(stop in text for text in rows["completion"] for stop in problem.stop)
        assert {True, False} == set(rows["finished"])
        # A character of UTF-8 that is cut is one character too.
        cut = rows.loc[~rows["finished"], "completion"]
        assert (cut.map(lambda text: len(text.encode())) >= 60).all()


def test_samples_do_not_depend_on_batches_order_or_other_problems(tmp_path: Path) -> None:
    frame = draw_samples(subject(), PROBLEMS, PLAN, tmp_path / "a")
    for size in (1, 7, 100):
        other = draw_samples(
            subject(), PROBLEMS, replace(PLAN, batch_size=size), tmp_path / str(size)
        )
        pd.testing.assert_frame_equal(other, frame)
    few = draw_samples(subject(), PROBLEMS[::-2], PLAN, tmp_path / "few")
    expected = frame[frame["problem"] != "a"]
    keys = ["temperature", "problem", "sample"]
    pd.testing.assert_frame_equal(
        few.sort_values(keys, ignore_index=True), expected.sort_values(keys, ignore_index=True)
    )
    warm = draw_samples(subject(), PROBLEMS, replace(PLAN, temperatures=[1.0]), tmp_path / "warm")
    pd.testing.assert_frame_equal(warm, frame[frame["temperature"] == 1].reset_index(drop=True))


def test_samples_of_a_problem_come_as_often_as_those_of_generate(tmp_path: Path) -> None:
    """First characters, against those that `generate` draws with its own streams."""
    one = Sampling([1.0], samples=3000, max_new_tokens=1, batch_size=3000)
    frame = draw_samples(subject(), PROBLEMS[2:], one, tmp_path)
    prompts = TOKENIZER.encode([PROMPT := PROBLEMS[2].prompt]) * 3000
    assert PROMPT == "# 1\n"
    tokens = generate(decoder(), prompts, 1, temperature=1.0, seed=5).tokens
    theirs = Counter(TOKENIZER.decode(row) for row in tokens)
    ours = Counter(frame["completion"])
    for text in {text for text, count in theirs.items() if count > 60}:
        assert abs(ours[text] - theirs[text]) < 5 * theirs[text] ** 0.5


def test_another_seed_temperature_or_model_gives_others(tmp_path: Path) -> None:
    frame = draw_samples(subject(), PROBLEMS, PLAN, tmp_path)
    for model, plan in (
        (decoder(), replace(PLAN, seed=1)),
        (decoder(), replace(PLAN, top_p=1.0)),
        (decoder(seed=1), PLAN),
    ):
        other = draw_samples(subject(model), PROBLEMS, plan, tmp_path)
        assert (other["completion"] != frame["completion"]).mean() > 0.5
    again = draw_samples(subject(), PROBLEMS, PLAN, tmp_path)
    pd.testing.assert_frame_equal(again, frame)
    assert len({path.parent.parent for path in files(tmp_path)}) == 4


def test_what_is_there_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counted(model: Any, prompts: list[list[int]], *args: Any, **keys: Any) -> Any:
        drawn.append(len(prompts))
        return generate(model, prompts, *args, **keys)

    monkeypatch.setattr(sampling, "generate", counted)
    frame = draw_samples(subject(), PROBLEMS, PLAN, tmp_path)
    assert sum(drawn) == 30 and max(drawn) == 4
    drawn.clear()
    pd.testing.assert_frame_equal(draw_samples(subject(), PROBLEMS, PLAN, tmp_path), frame)
    assert not drawn
    more = replace(PLAN, samples=7, temperatures=[0.5, 1.0, 0.8])
    larger = draw_samples(subject(), PROBLEMS, more, tmp_path)
    assert sum(drawn) == 3 * (2 + 2 + 7)
    both = larger.merge(frame, on=["problem", "temperature", "sample", "completion", "finished"])
    assert len(both) == len(frame)
    # Fewer than there are: the first ones.
    pd.testing.assert_frame_equal(draw_samples(subject(), PROBLEMS, PLAN, tmp_path), frame)


def test_greedy_samples_are_one_by_all_heads(tmp_path: Path) -> None:
    head = partial(MultiTokenHead, n=3, block=TransformerBlocks, unembedding=SharedUnembedding)
    model = decoder(head=head)
    frame = draw_samples(subject(model), PROBLEMS[2:], replace(PLAN, temperatures=[0]), tmp_path)
    prompt = TOKENIZER.encode([PROBLEMS[2].prompt])
    tokens = generate(model, prompt, 20, eos_id=TOKENIZER.eos_id).tokens[0]
    assert frame["completion"].tolist() == [TOKENIZER.decode(tokens)]


def test_a_model_of_transformers_and_texts_that_start_with_a_token(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = {
        "model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64,
        "tie_word_embeddings": False,
    }  # fmt: skip
    model = CausalLM(TOKENIZER.vocab_size, 0, TOKENIZER.eos_id, partial(LMHead), config).double()
    torch.nn.init.normal_(model.head.unembedding())
    plain = Subject(model, TOKENIZER, "cpu")
    frame = draw_samples(plain, PROBLEMS, PLAN, tmp_path)
    started = replace(plain, start=[TOKENIZER.eos_id], end_ids=[TOKENIZER.eos_id, ord("e")])
    other = draw_samples(started, PROBLEMS, PLAN, tmp_path)
    assert (other["completion"] != frame["completion"]).any()
    assert not other["completion"].str.contains("e").any()
    prompt = [TOKENIZER.eos_id, *TOKENIZER.encode([PROBLEMS[1].prompt])[0]]
    greedy = replace(PLAN, temperatures=[0.0])
    found = draw_samples(started, PROBLEMS[1:2], greedy, tmp_path)["completion"][0]
    tokens = generate(model, [prompt], 20, eos_id=[TOKENIZER.eos_id, ord("e")]).tokens[0]
    assert TOKENIZER.decode(tokens).startswith(found)


def test_a_prompt_that_leaves_little_room_gets_what_fits(tmp_path: Path) -> None:
    model = decoder(max_length=30)  # the prompts have 10, 30 and 4 bytes
    frame = draw_samples(subject(model), PROBLEMS, replace(PLAN, max_new_tokens=25), tmp_path)
    longest = frame.groupby("problem")["completion"].agg(lambda texts: max(map(len, texts)))
    assert longest["a"] == 1 and longest["c"] > 15
    model = decoder(max_length=20)
    frame = draw_samples(subject(model), PROBLEMS, PLAN, tmp_path).set_index("problem")
    assert set(frame.loc["a", "completion"]) == {""}
    assert not frame.loc["a", "finished"].any()
    assert frame.loc["c", "completion"].nunique() > 5


def test_a_damaged_file_is_named_and_drawn_again_once_deleted(tmp_path: Path) -> None:
    frame = draw_samples(subject(), PROBLEMS, PLAN, tmp_path)
    path = files(tmp_path)[1]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=f"{path.name} is damaged.*delete it and start the same"):
        draw_samples(subject(), PROBLEMS, PLAN, tmp_path)
    path.unlink()
    pd.testing.assert_frame_equal(draw_samples(subject(), PROBLEMS, PLAN, tmp_path), frame)


def test_a_killed_job_goes_on_after_its_last_batch(tmp_path: Path) -> None:
    plan = replace(PLAN, samples=3, max_new_tokens=5)
    frame = draw_samples(subject(), PROBLEMS, plan, tmp_path / "whole")
    batches = len(files(tmp_path / "whole"))
    killed = 0
    for change in range(1, 36, 3):
        folder = tmp_path / f"killed {change}"
        child = os.fork()
        if child == 0:
            sys.addaudithook(_Killer(str(folder), change, later=change % 2 == 0))
            draw_samples(subject(), PROBLEMS, plan, folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGALRM)
        left = {path: path.read_bytes() for path in files(folder)}
        pd.testing.assert_frame_equal(draw_samples(subject(), PROBLEMS, plan, folder), frame)
        assert {path: path.read_bytes() for path in left} == left, "kept batches stay as they are"
        assert len(files(folder)) == batches
        assert not list(folder.rglob("*.tmp"))
    assert killed > 5


def test_the_digest_of_weights_sees_every_bit() -> None:
    model = decoder()
    before = weights_digest(model)
    assert weights_digest(decoder()) == before
    with torch.no_grad():
        model.embedding.weight[3, 5] = torch.nextafter(
            model.embedding.weight[3, 5], torch.tensor(9.0).double()
        )
    assert weights_digest(model) != before
    assert weights_digest(decoder().float()) != before
    assert weights_digest(decoder().bfloat16()) != weights_digest(decoder().half())
