from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.errors import UsageError
from beyond_ce.evaluation import FinalAnswer, Subject, evaluator
from beyond_ce.evaluation.final_answer import final_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2+3 = 5\n#### 5", "5"),
        ("#### 1\nno\n####-2.50.", "-2.50"),
        ("#### 1,080 eggs", "1080"),
        ("####  .5", ".5"),
        ("#### 72 and 8", "72"),
        ("#### 72,", "72"),
        ("2+3 = 5", None),
        ("5 ####", None),
        ("#### five 5", None),
        ("#### $18", "18"),
        ("#### -$1,080.50", "-1080.50"),
        (r"#### \boxed{18}", "18"),
        (r"#### $\boxed{-18}$", "-18"),
        ("#### \u221218", "-18"),
        ("#### - 5", None),
        ("#### $", None),
        ("", None),
    ],
)
def test_the_number_after_the_last_marker(text: str, number: str | None) -> None:
    assert final_number(text) == number


_BEFORE = re.compile(r"\s*([+-]?(?:[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+))")


@given(rest=st.text("0123456789+-.,= a\n", max_size=20) | st.text(max_size=20))
def test_other_results_are_read_as_before(rest):
    """Plain numbers are, as committed runs read them."""
    if not set(rest) & set("$€£¥\u2212\ufe63\uff0d\\#"):
        match = _BEFORE.match(rest)
        assert final_number(f"####{rest}") == (match[1].replace(",", "") if match else None)


def test_solutions_are_scored_by_their_result(tokenizer, uniform, monkeypatch, examples):
    texts = ["4+6 #### 10.0", "10", "#### ten", "9 #### 13"]
    monkeypatch.setattr(evaluator, "answer", lambda *_, **__: texts)
    data = examples(*["5+5 = 10\n#### 10"] * 4)
    found = FinalAnswer(batch_size=4, max_new_tokens=9)(Subject(uniform, tokenizer, "cpu"), data)
    lines = found.predictions
    assert list(lines["correct"]) == [True, False, False, False]
    assert list(lines["invalid"]) == [False, True, True, False]
    assert list(lines["no_marker"]) == [False, True, False, False]
    assert found.metrics["accuracy"] == 0.25
    assert found.metrics["invalid"] == 0.5
    assert found.metrics["no_marker"] == 0.25
    assert found.metrics["mae"] == 1.5  # of 10 and 13; answers without a result are left out


def test_an_answer_without_a_result_is_refused(tokenizer, uniform, monkeypatch, examples):
    monkeypatch.setattr(evaluator, "answer", lambda *_, **__: ["#### 1"])
    with pytest.raises(UsageError, match="'10' holds no number that this evaluator can read"):
        FinalAnswer(batch_size=1, max_new_tokens=9)(
            Subject(uniform, tokenizer, "cpu"), examples("10")
        )
