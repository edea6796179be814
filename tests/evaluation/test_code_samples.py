"""pass@k of known programs: a model that writes them, and verdicts by their tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from beyond_ce.configuration import build, compose
from beyond_ce.data.programs.problem import FunctionTests, InputOutputTests, Problem
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import CodeSamples, Evaluators, Subject, code_samples
from beyond_ce.evaluation.code_execution import Verdict
from beyond_ce.evaluation.pass_at_k import over_temperatures, pass_at_k
from beyond_ce.models import Decoder
from beyond_ce.runs.assembly import build_model
from beyond_ce.tokenizers import ByteTokenizer

TOKENIZER = ByteTokenizer()
PROBLEMS = [
    Problem("add", "def add(a, b):\n", FunctionTests("assert add(1, 2) == 3", "add"),
            stop=("\ndef",), prefix="def add(a, b):\n"),
    Problem("echo", "# echo\n", InputOutputTests((("a\n", "a\n"),), 5.0, 256, None, None)),
    Problem("neg", "def neg(a):\n", FunctionTests("assert neg(1) == -1", "neg"),
            prefix="def neg(a):\n"),
]  # fmt: skip
UNJUDGED = Problem("odd", "# odd\n", InputOutputTests((("", ""),), 5.0, 256, None, "checker"))
# Completions by problem and temperature, in the order of the samples.
COMPLETIONS = {
    ("add", 0.2): ["    return a + b\n"] * 3 + ["    return a - b\n"],
    ("add", 0.8): ["    return a + b\n", "    return b + a\n", "    retur", "    return 3\n"],
    ("echo", 0.2): ["print('b')\n"] * 4,
    ("echo", 0.8): ["print(input())\n", "print('b')\n", "while True: pass\n", "raise ValueError\n"],
    ("neg", 0.2): ["    return a\n", "    return -a\n"] * 2,
    ("neg", 0.8): ["    pass\n"] * 4,
}
EXAMPLES = datasets.Dataset.from_dict(
    {"problem": [PROBLEMS[0].to_json(), "", *(p.to_json() for p in (*PROBLEMS[1:], UNJUDGED))]}
)


def decoder() -> Decoder:
    torch.manual_seed(0)
    sizes = ["model.dim=16", "model.max_length=64", "model.num_heads=2"]
    return build_model(compose(["model=decoder_tiny", "head=lm", *sizes]), TOKENIZER).eval()


def make(**settings: Any) -> CodeSamples:
    defaults = {
        "temperatures": [0.2, 0.8], "samples": 4, "ks": [1, 2, 4], "max_new_tokens": 8,
        "timeout_s": 2, "workers": 1,
    }  # fmt: skip
    return CodeSamples(**(defaults | settings))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Completions are those above, whatever the model."""

    def draw(subject: Any, problems: Any, sampling: Any, folder: Path) -> pd.DataFrame:
        rows = [
            (problem.id, t, i, text, text.endswith("\n"))
            for t in sampling.temperatures
            for problem in problems
            for i, text in enumerate(COMPLETIONS[problem.id, t][: sampling.count(t)])
        ]
        columns = ["problem", "temperature", "sample", "completion", "finished"]
        return pd.DataFrame(rows, columns=columns)

    monkeypatch.setattr(code_samples, "draw_samples", draw)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs are not run but judged by their texts; gives those that were."""
    programs: list[str] = []

    def run_all(jobs: list, workers: Any, **limits: Any) -> Iterator[tuple[int, Verdict]]:
        for place, (program, _) in reversed(list(enumerate(jobs))):
            programs.append(program)
            right = any(t in program for t in ("a + b", "b + a", "input()", "-a"))
            kind = "passed" if right else "timeout" if "while" in program else "failed"
            yield place, Verdict(kind, "" if right else "why", "", "", 0.0, 0.0)

    monkeypatch.setattr(code_samples, "run_all", run_all)
    monkeypatch.setattr(code_samples, "isolation", lambda: SimpleNamespace(name="none"))
    return programs


def subject(folder: Path | None = None) -> Subject:
    return Subject(decoder(), TOKENIZER, "cpu", folder)


def test_every_sample_is_judged_and_each_program_once(written: None, judged: list[str]) -> None:
    result = make()(subject(), EXAMPLES)
    frame = result.predictions
    assert len(frame) == 24
    assert list(frame.columns) == [
        "problem", "temperature", "sample", "completion", "finished", "verdict", "reason",
    ]  # fmt: skip
    assert sorted(judged) == sorted(set(judged)) and len(judged) == 12
    assert "def add(a, b):\n    return b + a\n" in judged and "print('b')\n" in judged
    right = frame[frame["verdict"] == "passed"]
    assert set(right["reason"]) == {""}
    assert set(right["completion"]) == {
        "    return a + b\n", "    return b + a\n", "print(input())\n", "    return -a\n",
    }  # fmt: skip
    metrics = result.metrics
    assert (metrics["problems"], metrics["unsupported_problems"]) == (3, 1)
    assert metrics["distinct_programs"] == 12
    assert metrics["timeout@t0.8"] == 1 / 12 and metrics["timeout@t0.2"] == 0
    assert metrics["passed@t0.2"] == 5 / 12 and metrics["failed@t0.2"] == 7 / 12
    assert metrics["finished@t0.8"] == 11 / 12
    assert metrics["distinct@t0.2"] == pytest.approx((2 + 1 + 2) / 12)
    assert metrics["distinct@t0.8"] == pytest.approx((4 + 4 + 1) / 12)


def test_estimates_are_those_of_the_counts(written: None, judged: list[str]) -> None:
    metrics = make()(subject(), EXAMPLES).metrics
    counts = np.array([[3, 2], [0, 1], [2, 0]])  # add, echo, neg; at 0.2 and 0.8
    for k in (1, 2, 4):
        table = [[pass_at_k(4, int(c), k) for c in row] for row in counts]
        found = over_temperatures(table, [0.2, 0.8])
        expected = {"t0.2": found.at[0.2], "t0.8": found.at[0.8], "oracle": found.oracle}
        assert found.held_out is not None
        for name, estimate in {**expected, "held_out": found.held_out}.items():
            names = [f"pass@{k}@{name}{end}" for end in ("", "@low", "@high")]
            assert [metrics[n] for n in names] == [estimate.value, estimate.low, estimate.high]
        assert metrics[f"best_temperature@pass@{k}"] == found.best
    assert metrics["pass@1@t0.2"] == pytest.approx(5 / 12)
    assert metrics["pass@4@oracle"] == pytest.approx(2 / 3)


def test_greedy_samples_pass_for_any_k(
    written: None, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for problem in PROBLEMS:
        monkeypatch.setitem(COMPLETIONS, (problem.id, 0), COMPLETIONS[problem.id, 0.2])
    metrics = make(temperatures=[0, 0.8])(subject(), EXAMPLES).metrics
    assert metrics["pass@1@t0"] == metrics["pass@4@t0"] == pytest.approx(1 / 3)
    assert metrics["pass@4@oracle"] == pytest.approx(2 / 3)


def test_a_data_set_of_its_own_is_used_whatever_the_examples(
    written: None, judged: list[str]
) -> None:
    asked: list[str] = []

    class Data:
        def problems(self, split: str) -> list[Problem]:
            asked.append(split)
            return PROBLEMS[:1]

    other = datasets.Dataset.from_dict({"prompt": ["1 + 1"], "answer": ["2"], "task": ["sum"]})
    result = make(data=Data(), split="validation")(subject(), other)
    assert asked == ["validation"] and set(result.predictions["problem"]) == {"add"}
    assert "pass@1@held_out" not in result.metrics  # a single problem has no other half
    few = make(max_examples=2)(subject(), EXAMPLES).predictions
    assert set(few["problem"]) == {"add"}  # the last is the one that cannot be judged


def test_kept_verdicts_are_not_made_again(
    written: None, judged: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = make()(subject(), EXAMPLES)
    judged.clear()
    monkeypatch.setattr(code_samples, "_VERDICTS_AT_ONCE", 5)
    run_all = code_samples.run_all

    def dies(jobs: list, workers: Any, **limits: Any) -> Iterator[tuple[int, Verdict]]:
        for number, result in enumerate(run_all(jobs, workers, **limits)):
            if number == 7:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(code_samples, "run_all", dies)
    with pytest.raises(KeyboardInterrupt):
        make()(subject(tmp_path), EXAMPLES)
    monkeypatch.setattr(code_samples, "run_all", run_all)
    first = judged[:5]  # the batch that was kept
    judged.clear()
    found = make()(subject(tmp_path), EXAMPLES)
    assert len(judged) == 7 and not set(first) & set(judged)
    pd.testing.assert_frame_equal(found.predictions, expected.predictions)
    assert found.metrics == expected.metrics
    judged.clear()
    make().tidy(tmp_path)  # as soon as the scores are written
    make()(subject(tmp_path), EXAMPLES)
    assert len(judged) == 12, "a finished evaluation leaves no verdicts that could grow old"


def test_verdicts_of_one_benchmark_outlive_a_kill_in_the_next(
    written: None, judged: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_samples, "_VERDICTS_AT_ONCE", 1)
    both = Evaluators({"one": make(name="one"), "two": make(name="two", timeout_s=7.0)})
    evaluate = code_samples.CodeSamples._evaluate

    def dies(self: Any, *arguments: Any) -> Any:
        if self.timeout_s == 7.0:
            raise KeyboardInterrupt
        return evaluate(self, *arguments)

    monkeypatch.setattr(code_samples.CodeSamples, "_evaluate", dies)
    with pytest.raises(KeyboardInterrupt):
        both(subject(tmp_path), EXAMPLES)
    monkeypatch.setattr(code_samples.CodeSamples, "_evaluate", evaluate)
    of_one = len(judged)
    judged.clear()
    both(subject(tmp_path), EXAMPLES)
    assert 0 < len(judged) == of_one, "only those of the second benchmark, at its own time limit"
    both.tidy(tmp_path)
    assert not (tmp_path / "verdicts").exists()


def test_a_problem_that_is_there_twice_is_refused() -> None:
    twice = datasets.concatenate_datasets([EXAMPLES, EXAMPLES.select([0])])
    with pytest.raises(UsageError, match="problem add is there twice: keep one file"):
        make()(subject(), twice)


def test_real_programs_of_a_real_model_in_the_sandbox(tmp_path: Path) -> None:
    result = make(max_new_tokens=6, temperatures=[1.0])(subject(tmp_path), EXAMPLES)
    assert set(result.predictions["verdict"]) <= {"failed", "timeout", "memory", "crashed"}
    assert result.metrics["pass@1@t1"] == 0
    again = make(max_new_tokens=6, temperatures=[1.0])(subject(tmp_path), EXAMPLES)
    pd.testing.assert_frame_equal(again.predictions, result.predictions)
    assert make().environment()["isolation"]


def test_real_verdicts(written: None) -> None:
    frame = make()(subject(), EXAMPLES).predictions
    verdicts = dict(zip(frame["completion"], frame["verdict"], strict=True))
    assert verdicts["    return a + b\n"] == verdicts["print(input())\n"] == "passed"
    assert verdicts["    retur"] == verdicts["    pass\n"] == verdicts["print('b')\n"] == "failed"
    assert frame["reason"][frame["verdict"] != "passed"].str.len().min() > 0


def test_beside_another_evaluator(written: None, judged: list[str]) -> None:
    both = Evaluators({"programs": make()})
    assert both.environment() == {"isolation": "none"}
    assert both(subject(), EXAMPLES).metrics["problems"] == 3


def test_several_benchmarks_tell_their_names(written: None, judged: list[str]) -> None:
    one, two = make(name="one"), make(name="two", ks=[1])
    both = Evaluators({"one": one, "two": two}, samples=4, temperatures=[0.2, 0.8])
    result = both(subject(), EXAMPLES)
    plain = make()(subject(), EXAMPLES)
    of_one = {f"one/{key}": value for key, value in plain.metrics.items()}
    assert of_one.items() <= result.metrics.items()
    assert result.metrics["two/pass@1@oracle"] == plain.metrics["pass@1@oracle"]
    assert "two/pass@4@oracle" not in result.metrics and "pass@1@oracle" not in result.metrics
    frames = [plain.predictions, plain.predictions]
    pd.testing.assert_frame_equal(result.predictions, pd.concat(frames, ignore_index=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ks": [1, 5]}, r"evaluator.ks=\[1, 5\] needs at least 5 samples: raise"),
        ({"temperatures": [0.2, 0.2]}, "has one twice: give each once"),
        ({"temperatures": []}, "evaluator.temperatures"),
        ({"temperatures": [-1]}, "evaluator.temperatures"),
        ({"top_p": 0}, "evaluator.top_p=0"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(**settings)


def test_no_problems_that_can_be_judged() -> None:
    none = datasets.Dataset.from_dict({"problem": [UNJUDGED.to_json(), ""]})
    with pytest.raises(UsageError, match="no problems that can be judged: choose a data set of"):
        make()(subject(), none)


def test_the_benchmarks_of_table_1_are_one_choice() -> None:
    evaluator = compose(["evaluator=benchmarks_and_held_out", "evaluator.samples=100"]).evaluator
    built = build(evaluator, "evaluator").evaluators
    assert list(built) == ["mbpp", "humaneval", "apps", "held_out"]
    for name in ("mbpp", "humaneval", "apps"):
        assert (built[name].name, built[name].data.name) == (name, name)
        assert built[name].sampling.count(0.1) == 100
    assert compose(["evaluator=benchmarks"]).evaluator.evaluators.keys() == {*built} - {"held_out"}


@pytest.mark.parametrize("name", ["programs", "humaneval", "mbpp", "apps", "code_contests"])
def test_the_choices_of_the_config(name: str) -> None:
    config = compose([f"evaluator={name}"])
    evaluator = build(config.evaluator, "evaluator")
    assert isinstance(evaluator, CodeSamples)
    assert evaluator.sampling.samples == 200 and evaluator.ks == [1, 10, 100]
    assert (evaluator.data is None) == (name == "programs")
    assert CodeSamples.reads(config.evaluator) == (("problem",) if name == "programs" else ())
    if evaluator.data is not None:
        assert evaluator.data.name == name and evaluator.split == "test"
