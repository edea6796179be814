"""pass@k of known solutions: what is asked, what counts as the result, and what is right."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from beyond_ce.configuration import build, compose
from beyond_ce.data import GSM8K
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import Subject, WordProblems, sampling, word_problems
from beyond_ce.evaluation.pass_at_k import pass_at_k
from beyond_ce.evaluation.word_problems import result
from beyond_ce.models import Decoder
from beyond_ce.runs.assembly import build_model
from beyond_ce.tokenizers import ByteTokenizer

TOKENIZER = ByteTokenizer()


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("6 + 1 = 7\n#### 7", "7"),
        ("#### 1,080 eggs", "1080"),
        ("#### -3", "-3"),
        ("#### 7\n#### 8", "7"),
        ("#### 7.50", "7.50"),
        ("#### $7", None),
        ("####7", None),
        ("so 7", None),
        ("", None),
    ],
)
def test_the_result_is_that_of_gsm8ks_grading(solution: str, expected: str | None) -> None:
    assert result(solution) == expected


@pytest.fixture
def data(tmp_path: Path) -> GSM8K:
    """Problems "i + i?" with the solution 2i."""
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    for split, first, count in (("train", 0, 5), ("test", 100, 3)):
        rows = [
            {
                "question": f"{i} + {i}?",
                "answer": f"It is <<{i}+{i}={2 * i}>>{2 * i}.\n#### {2 * i}",
            }
            for i in range(first, first + count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return GSM8K(validation_size=1, seed=0, cache_dir=tmp_path / "cache", path=folder)


def make(data: GSM8K, **settings: Any) -> WordProblems:
    defaults = {
        "temperatures": [0.2, 0.8], "samples": 4, "ks": [1, 2], "max_new_tokens": 8, "shots": 2,
    }  # fmt: skip
    return WordProblems(data=data, **(defaults | settings))


def subject(folder: Path | None = None, context: int = 256) -> Subject:
    torch.manual_seed(0)
    sizes = ["model.dim=16", f"model.max_length={context}", "model.num_heads=2"]
    model = build_model(compose(["model=decoder_tiny", "head=lm", *sizes]), TOKENIZER).eval()
    assert isinstance(model, Decoder)
    return Subject(model, TOKENIZER, "cpu", folder)


def test_a_prompt_has_examples_and_ends_where_the_solution_begins(data: GSM8K) -> None:
    train = data.load()["train"].to_list()
    first, second = (f"Question: {r['prompt']}\nAnswer: {r['answer']}\n\n" for r in train[:2])
    assert "It is " in first and "<<" not in first and "\n#### " in first
    asked = make(data)._asked()
    assert [problem.prompt for problem in asked] == [
        f"{first}{second}Question: {i} + {i}?\nAnswer:" for i in (100, 101, 102)
    ]
    assert [problem.result for problem in asked] == ["200", "202", "204"]
    assert [problem.id for problem in asked] == ["gsm8k/0", "gsm8k/1", "gsm8k/2"]
    assert make(data, shots=0)._asked()[0].prompt == "Question: 100 + 100?\nAnswer:"
    assert [problem.result for problem in make(data, max_examples=2)._asked()] == ["200", "204"]


def test_estimates_are_those_of_the_counts(data: GSM8K, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        ("gsm8k/0", 0.2): [" It is 200.\n#### 200", " 200", "\n#### 2,00", "#### 201"],
        ("gsm8k/0", 0.8): ["#### 200"] * 4,
        ("gsm8k/1", 0.2): ["", "", "", "#### 200"],
        ("gsm8k/1", 0.8): ["#### 202", "#### 1\n#### 202", "#### 202.0", "x"],
        ("gsm8k/2", 0.2): ["x"] * 4,
        ("gsm8k/2", 0.8): ["y"] * 4,
    }

    def draw(subject: Any, problems: Any, drawn: Any, folder: Path) -> pd.DataFrame:
        rows = [
            (problem.id, t, i, text, text != "")
            for t in drawn.temperatures
            for problem in problems
            for i, text in enumerate(texts[problem.id, t])
        ]
        columns = ["problem", "temperature", "sample", "completion", "finished"]
        return pd.DataFrame(rows, columns=columns)

    monkeypatch.setattr(word_problems, "draw_samples", draw)
    found = make(data)(subject(), data.load()["test"])
    metrics = found.metrics
    right = {0.2: [2, 0, 0], 0.8: [4, 1, 0]}
    for t, counts in right.items():
        for k in (1, 2):
            expected = sum(pass_at_k(4, c, k) for c in counts) / 3
            assert metrics[f"pass@{k}@t{t}"] == pytest.approx(expected)
        assert metrics[f"right@t{t}"] == pytest.approx(sum(counts) / 12)
    assert metrics["pass@1@oracle"] == metrics["pass@1@t0.8"]
    assert metrics["best_temperature@pass@1"] == 0.8
    assert metrics["answered@t0.2"] == pytest.approx(4 / 12)
    assert metrics["answered@t0.8"] == pytest.approx(7 / 12)
    assert metrics["finished@t0.2"] == pytest.approx(9 / 12)
    assert metrics["distinct@t0.2"] == pytest.approx((4 + 2 + 1) / 12)
    assert (metrics["problems"], metrics["no_room"]) == (3, 0)
    assert list(found.predictions["result"][:4]) == ["200", "", "200", "201"]
    assert list(found.predictions["right"][:4]) == [True, False, True, False]
    named = make(data, name="gsm8k")(subject(), data.load()["test"]).metrics
    assert named["gsm8k/pass@1@t0.2"] == metrics["pass@1@t0.2"]


def test_a_real_model_and_samples_that_are_kept(
    data: GSM8K, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = data.load()["test"]
    first = make(data)(subject(tmp_path / "run"), examples)
    assert len(first.predictions) == 2 * 3 * 4 and first.metrics["pass@1@oracle"] == 0
    assert not first.predictions["completion"].str.contains("\n\n|\nQuestion: ").any()
    monkeypatch.setattr(sampling, "generate", lambda *_, **__: pytest.fail("sampled again"))
    again = make(data)(subject(tmp_path / "run"), examples)
    pd.testing.assert_frame_equal(again.predictions, first.predictions)


def test_prompts_without_room_are_counted_or_refused(data: GSM8K) -> None:
    length = len(make(data)._asked()[0].prompt)
    examples = data.load()["test"]
    assert make(data)(subject(context=length + 7), examples).metrics["no_room"] == 0
    assert make(data)(subject(context=length + 6), examples).metrics["no_room"] == 1
    with pytest.raises(UsageError, match=rf"shots=2: no prompt fits .* of {length - 1} tokens"):
        make(data)(subject(context=length - 1), examples)


def test_more_examples_than_there_are_problems_are_refused(data: GSM8K) -> None:
    with pytest.raises(UsageError, match="shots=5: there are only 4 training problems"):
        make(data, shots=5)(subject(), data.load()["test"])


def test_the_choice_is_the_papers_protocol() -> None:
    config = compose(["evaluator=word_problems"]).evaluator
    assert (config.shots, config.top_p, config.samples) == (8, 0.95, 200)
    assert list(config.temperatures) == [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4]
    assert list(config.ks) == [1, 10, 100]


@pytest.mark.skipif("BEYOND_CE_DATA" not in os.environ, reason="needs BEYOND_CE_DATA")
def test_every_real_problem_has_a_result(tmp_path: Path) -> None:
    config = compose(["evaluator=word_problems", f"cache_dir={tmp_path}"]).evaluator
    asked = build(config, "evaluator")._asked()
    assert len(asked) == 1319
    assert all(problem.prompt.count("\n#### ") == 8 for problem in asked)
