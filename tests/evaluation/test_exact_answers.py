from __future__ import annotations

from types import SimpleNamespace

import datasets
import pandas as pd
import pytest

from beyond_ce.errors import UsageError
from beyond_ce.evaluation import ExactAnswers, Subject, evaluator
from beyond_ce.evaluation.exact_answers import score

END, SPACE, DIGIT = 1, 2, 3  # as in conftest.py


def test_metrics_by_hand() -> None:
    """The share of in_domain is of its three answers, not the mean of 1/2 and 1."""
    frame = pd.DataFrame(
        {
            "task": ["in_domain/m=1", "in_domain/m=1", "in_domain/m=2", "out_of_domain/m=3", "x"],
            "correct": [True, False, True, False, True],
            "finished": [True, True, True, False, True],
        }
    )
    assert score(frame) == {
        **{"accuracy": 3 / 5, "finished": 4 / 5, "examples": 5},
        **{"accuracy@in_domain/m=1": 0.5, "finished@in_domain/m=1": 1},
        **{"accuracy@in_domain/m=2": 1, "finished@in_domain/m=2": 1},
        **{"accuracy@out_of_domain/m=3": 0, "finished@out_of_domain/m=3": 0},
        **{"accuracy@x": 1, "finished@x": 1, "examples@x": 1},
        **{"examples@in_domain/m=1": 2, "examples@in_domain/m=2": 1},
        **{"examples@out_of_domain/m=3": 1},
        **{"accuracy@in_domain": 2 / 3, "finished@in_domain": 1, "examples@in_domain": 3},
        **{"accuracy@out_of_domain": 0, "finished@out_of_domain": 0},
        **{"examples@out_of_domain": 1},
    }
    assert score(frame[:0]) == {}


def test_an_answer_is_right_if_it_is_the_text_and_ends(monkeypatch, tokenizer, uniform) -> None:
    """A prefix, a longer text, one that is not ended and one with a space are wrong."""
    written = [[1, 2, END], [1, END], [1, 2, 3, END], [1, 2], [1, 2, SPACE, END]]
    tokens = [[DIGIT + t if t not in (END, SPACE) or i < 2 else t for i, t in enumerate(row)]
              for row in written]  # fmt: skip
    tokens[1][1] = END
    asked = {}

    def generate(model, prompts, **settings):
        asked.update(settings, prompts=prompts)
        return SimpleNamespace(tokens=tokens)

    monkeypatch.setattr(evaluator, "generate", generate)
    tokenizer.decode = lambda ids: "".join(
        " " if i == SPACE else str(i - DIGIT) for i in ids if i != END
    )
    examples = datasets.Dataset.from_dict(
        {"prompt": ["7"] * 5, "answer": ["12"] * 5, "task": ["a/b"] * 5}
    )
    found = ExactAnswers(batch_size=2, max_new_tokens=None)(
        Subject(uniform, tokenizer, "cpu"), examples
    )
    assert list(found.predictions["prediction"]) == ["12", "1", "123", "12", "12 "]
    assert list(found.predictions["correct"]) == [True, False, False, False, False]
    assert found.metrics["accuracy"] == found.metrics["accuracy@a/b"] == 1 / 5
    assert found.metrics["finished@a"] == 4 / 5
    assert asked["prompts"] == [[DIGIT + 7]] * 5
    assert (asked["num_beams"], asked["eos_id"], asked["max_new_tokens"]) == (1, END, 2 + 1 + 10)


def test_a_head_that_predicts_a_number_is_refused(tokenizer, uniform, examples) -> None:
    uniform.head.target = "value"
    with pytest.raises(UsageError, match="needs one that predicts tokens"):
        ExactAnswers(batch_size=2, max_new_tokens=4)(
            Subject(uniform, tokenizer, "cpu"), examples("1")
        )
