"""pass@k with whitespace after the prompts, by a model whose programs are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pandas as pd
import pytest

from beyond_ce.configuration import build, compose
from beyond_ce.data.programs.problem import FunctionTests, InputOutputTests, Problem
from beyond_ce.errors import UsageError
from beyond_ce.evaluation import Evaluators, WhitespaceSamples, code_samples
from beyond_ce.evaluation.code_execution import Verdict

FUNCTION = Problem("f", "def f(x):\n", FunctionTests("assert f(1) == 1", "f"), prefix="def f(x):\n")
CONTEST = Problem("c", "# echo\n", InputOutputTests((("a\n", "a\n"),), 5.0, 256, None, None))
EXAMPLES = datasets.Dataset.from_dict({"problem": [FUNCTION.to_json(), CONTEST.to_json()]})
RIGHT = {"": 1, "\n": 3, "  \n": 0}  # of four samples of each problem
SETTINGS: dict[str, Any] = {
    "temperatures": [0.2], "samples": 4, "ks": [1, 2], "max_new_tokens": 8, "workers": 1,
}  # fmt: skip


def ending(prompt: str) -> str:
    """The whitespace that was put at a prompt's end."""
    return prompt.removeprefix("def f(x):\n").removeprefix("# echo\n")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Samples are right as often as `RIGHT` says; gives the programs that were run."""
    run: list[str] = []

    def draw(subject: Any, problems: Any, sampling: Any, folder: Path) -> pd.DataFrame:
        rows = [
            (p.id, 0.2, i, f"right {i}" if i < RIGHT[ending(p.prompt)] else f"wrong {i}", True)
            for p in problems
            for i in range(sampling.samples)
        ]
        columns = ["problem", "temperature", "sample", "completion", "finished"]
        return pd.DataFrame(rows, columns=columns)

    def run_all(jobs: list, workers: Any, **limits: Any) -> Iterator[tuple[int, Verdict]]:
        for place, (program, _) in enumerate(jobs):
            run.append(program)
            kind = "passed" if "right" in program else "failed"
            yield place, Verdict(kind, "", "", "", 0.0, 0.0)

    monkeypatch.setattr(code_samples, "draw_samples", draw)
    monkeypatch.setattr(code_samples, "run_all", run_all)
    monkeypatch.setattr(code_samples, "isolation", lambda: SimpleNamespace(name="none"))
    monkeypatch.setattr(code_samples, "check_predicts_tokens", lambda model: None)
    return run


SUBJECT: Any = SimpleNamespace(model=None, folder=None)


def test_differences_are_in_points_of_the_prompts_as_they_are(programs: list[str]) -> None:
    evaluator = WhitespaceSamples({"newline": "\n", "both": "  \n"}, **SETTINGS)
    metrics = evaluator(SUBJECT, EXAMPLES).metrics
    assert metrics["pass@1@oracle"] == 0.25
    assert metrics["pass@1@oracle@newline"] == 0.75 and metrics["pass@1@t0.2@both"] == 0
    assert metrics["pass@1_points@newline"] == 50 and metrics["pass@1_points@both"] == -25
    assert metrics["pass@1_points@mean"] == 12.5
    assert metrics["pass@2_points@newline"] == pytest.approx(50)


def test_the_whitespace_stays_in_programs_that_begin_with_their_prompt(
    programs: list[str],
) -> None:
    result = WhitespaceSamples({"newline": "\n"}, **SETTINGS)(SUBJECT, EXAMPLES)
    assert "def f(x):\n\nright 2" in programs and "right 2" in programs
    frame = result.predictions
    assert list(frame["whitespace"]) == [""] * 8 + ["newline"] * 8
    assert (frame["verdict"] == "passed").groupby(frame["whitespace"]).sum().tolist() == [2, 6]


def test_a_benchmark_tells_its_name(programs: list[str]) -> None:
    parts = {
        name: WhitespaceSamples({"newline": "\n", "both": "  \n"}, name=name, **SETTINGS)
        for name in ("one", "two")
    }
    metrics = Evaluators(parts, ks=[1, 2])(SUBJECT, EXAMPLES).metrics
    for name in parts:
        assert metrics[f"{name}/pass@1@oracle"] == 0.25
        assert metrics[f"{name}/pass@1@oracle@newline"] == 0.75
        assert metrics[f"pass@1_points@{name}_newline"] == 50
        assert metrics[f"pass@1_points@{name}_mean"] == 12.5


def test_an_evaluation_leaves_the_evaluator_as_it_was(programs: list[str]) -> None:
    evaluator = WhitespaceSamples({"newline": "\n"}, **SETTINGS)
    assert evaluator(SUBJECT, EXAMPLES).metrics == evaluator(SUBJECT, EXAMPLES).metrics


def test_the_choice_of_the_config() -> None:
    config = compose(["evaluator=programs_with_whitespace", "evaluator.samples=100"])
    evaluator = build(config.evaluator, "evaluator")
    assert isinstance(evaluator, WhitespaceSamples)
    assert evaluator.whitespace == {"newline": "\n", "spaces_and_newline": "    \n"}
    assert evaluator.sampling.samples == 100


def test_the_benchmarks_with_whitespace_are_one_choice() -> None:
    config = compose(["evaluator=benchmarks_with_whitespace", "evaluator.samples=100"])
    parts = build(config.evaluator, "evaluator").evaluators
    assert list(parts) == ["mbpp", "humaneval", "apps"]
    for name, part in parts.items():
        assert isinstance(part, WhitespaceSamples)
        assert (part.name, part.data.name, part.samples) == (name, name, 100)
        assert part.whitespace == {"newline": "\n", "spaces_and_newline": "    \n"}


@pytest.mark.parametrize("whitespace", [{"pause": "..."}, {"none": ""}, {"mean": "\n"}, {}, "\n"])
def test_anything_but_whitespace_is_refused(whitespace: Any) -> None:
    with pytest.raises(UsageError, match=r"evaluator\.whitespace"):
        WhitespaceSamples(whitespace, **SETTINGS)
