"""The harness's tasks on models here, beside the harness's own `hf` model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import lm_eval.tasks
import numpy as np
import pytest
from omegaconf import OmegaConf
from real_models import real_model

from beyond_ce.configuration import build, compose
from beyond_ce.data import Questions
from beyond_ce.errors import RunError, UsageError
from beyond_ce.evaluation import Evaluation, HarnessTasks, Subject
from beyond_ce.models import CausalLM
from beyond_ce.models.heads import LMHead
from beyond_ce.tokenizers import PretrainedTokenizer

NOTHING = datasets.Dataset.from_dict({})
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few questions of each kind, in files of their own form."""
    root = tmp_path_factory.mktemp("questions")

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        path = root / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def asked(choices: int) -> list[dict[str, Any]]:
        return [
            {
                "question": f"Once upon a time {word} of them played. What is it?",
                "choices": [f"{WORDS[(i + j) % 10]} {word}" for j in range(choices)],
                "label": i % choices,
            }
            for i, word in enumerate(WORDS)
        ]

    write("arc/arc_challenge_test", asked(4))
    write("piqa/piqa_validation", asked(2))
    more = [{"subject": name, **row} for name in ("anatomy", "virology") for row in asked(4)]
    every = [{**row, "subject": name} for name in subjects() for row in asked(4)[:1]]
    write("mmlu/mmlu_test", [*more, *every])
    write("mmlu/mmlu_dev", every)
    answers = [{"question": f"how many are {word}", "answer": [word]} for word in WORDS * 3]
    write("nq_open/NQ-open.dev", answers)
    return root


def subjects() -> list[str]:
    """MMLU's, of which the harness has a file each."""
    folder = Path(lm_eval.tasks.__file__).parent / "mmlu" / "default"
    return sorted(path.stem.removeprefix("mmlu_") for path in folder.glob("mmlu_*.yaml"))


@pytest.fixture(scope="module")
def subject() -> Subject:
    folder = str(real_model("stories260k"))
    tokenizer = PretrainedTokenizer(folder)
    sizes = (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id)
    model = CausalLM(*sizes, LMHead, {}, pretrained=folder)
    return Subject(model, tokenizer, "cpu", start=tokenizer.start_ids)


@pytest.fixture(scope="module")
def made(data: Path) -> Callable[..., HarnessTasks]:
    def make(shots: dict[str, int] | None = None, **settings: Any) -> HarnessTasks:
        tasks = settings.pop("tasks", ["arc_challenge", "piqa"])
        source = Questions(tasks, shots or {}, data / "cache", path=data)
        return HarnessTasks(tasks, shots or {}, source, batch_size=7, max_new_tokens=4, **settings)

    return make


@pytest.fixture(scope="module")
def scored(made: Callable[..., HarnessTasks], subject: Subject) -> Evaluation:
    return made(shots={"nq_open": 2}, tasks=["arc_challenge", "piqa", "nq_open"])(subject, NOTHING)


def test_scores_are_those_of_the_harness_own_model(
    scored: Evaluation, made: Callable[..., HarnessTasks], subject: Subject
) -> None:
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    from beyond_ce.evaluation.harness_loading import load_tasks

    theirs = HFLM(
        pretrained=str(real_model("stories260k")),
        batch_size=4,
        device="cpu",
        dtype="float32",
        add_bos_token=bool(subject.start),
        max_length=512,
    )
    names = ["arc_challenge", "piqa"]
    tasks, asked = load_tasks(made(tasks=names).data, None, 1234)
    results = evaluate(theirs, tasks, samples=asked, bootstrap_iters=100)
    for name in names:
        for metric in ("acc", "acc_norm"):
            expected = results["results"][name]
            assert scored.metrics[f"{name}/{metric}"] == expected[f"{metric},none"]
            error = scored.metrics[f"{name}/{metric}@stderr"]
            assert error == pytest.approx(expected[f"{metric}_stderr,none"])
        ours = scored.predictions[scored.predictions["task"] == name]["responses"]
        found = [nats for row in ours for nats, _ in json.loads(row)]
        rows = results["samples"][name]
        assert found == pytest.approx([r[0] for x in rows for r in x["filtered_resps"]], abs=1e-4)


def test_what_is_reported_besides(scored: Evaluation) -> None:
    metrics, frame = scored.metrics, scored.predictions
    assert metrics["arc_challenge/questions"] == metrics["piqa/questions"] == 10
    assert metrics["nq_open/questions"] == 27  # every tenth is an example
    assert (metrics["arc_challenge/chance"], metrics["piqa/chance"]) == (0.25, 0.5)
    assert metrics["choices/chance"] == 0.375
    assert metrics["choices/acc"] == np.mean(
        [metrics[f"{n}/acc"] for n in ("arc_challenge", "piqa")]
    )
    errors = [metrics[f"{name}/acc@stderr"] for name in ("arc_challenge", "piqa")]
    assert metrics["choices/acc@stderr"] == pytest.approx(np.hypot(*errors) / 2)
    assert 0 <= metrics["nq_open/exact_match"] <= 1 and metrics["truncated"] == 0
    assert len(frame) == 47
    assert frame[frame["task"] == "piqa"]["score"].mean() == metrics["piqa/acc"]


def test_some_of_the_questions(made: Callable[..., HarnessTasks], subject: Subject) -> None:
    """A limit is spread over the task, and over the subjects of MMLU."""
    found = made(tasks=["mmlu", "piqa"], max_examples=4, shots={"mmlu": 1})(subject, NOTHING)
    assert found.metrics["piqa/questions"] == 4
    assert found.metrics["mmlu/questions"] == 57
    assert found.predictions["task"].nunique() == 58
    assert found.metrics["mmlu/chance"] == 0.25


def test_settings_that_contradict_each_other(data: Path) -> None:
    source = Questions(["piqa"], {}, data)
    with pytest.raises(UsageError, match="evaluator.data has other tasks or shots"):
        HarnessTasks(["arc_challenge"], {}, source, 1, 1)


def test_what_cannot_be_scored_is_one_line(
    made: Callable[..., HarnessTasks], subject: Subject, data: Path, monkeypatch: Any
) -> None:
    def message(error: type[Exception], evaluator: HarnessTasks) -> str:
        with pytest.raises(error) as raised:
            evaluator(subject, NOTHING)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "evaluator.head=2: the model has 1 head(s)" in message(UsageError, made(head=2))
    few = made(shots={"arc_challenge": 1}, tasks=["arc_challenge"])
    monkeypatch.setattr(few.data, "rows", lambda task: {"test": few_rows(data)})
    assert "evaluator.shots.arc_challenge=1: there are no files" in message(UsageError, few)
    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    lost = made(tasks=["social_iqa"])
    assert "cannot load the harness's task social_iqa" in message(RunError, lost)


def unreachable(*args: Any, **kwargs: Any) -> None:
    raise ConnectionError("no network")


def few_rows(data: Path) -> list[dict[str, Any]]:
    rows = Questions(["arc_challenge"], {}, data, path=data).rows("arc_challenge")
    assert rows is not None
    return rows["test"]


def test_a_missing_harness_is_one_line(
    made: Callable[..., HarnessTasks], subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "lm_eval.evaluator", None)
    with pytest.raises(UsageError, match=r"needs lm-evaluation-harness.*pip install"):
        made()(subject, NOTHING)


def test_changed_tasks_reach_the_data_of_a_saved_config(data: Path) -> None:
    config = compose(["evaluator=choices", "evaluator.tasks=[piqa,copa]"])
    saved = OmegaConf.create(OmegaConf.to_container(config, resolve=True)).evaluator
    changed = saved.copy()
    changed.tasks, changed.shots = ["piqa"], {"piqa": 0}
    evaluator = build(HarnessTasks.pass_on(changed, saved), "evaluator")
    assert evaluator.data.shots == {"piqa": 0}


def test_it_needs_no_column_of_the_examples() -> None:
    assert not HarnessTasks.reads(compose(["evaluator=choices"]).evaluator)
