"""Problems and their JSON."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.data.programs.problem import FunctionTests, InputOutputTests, Problem

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_TEXTS = st.lists(_TEXT, max_size=3).map(tuple)
_FUNCTION = st.builds(FunctionTests, _TEXT, st.none() | _TEXT)
_INPUT_OUTPUT = st.builds(
    InputOutputTests,
    st.lists(st.tuples(_TEXT, _TEXT), max_size=3).map(tuple),
    st.floats(0.1, 100),
    st.integers(1, 4096),
    st.none() | st.floats(0, 1),
    st.none() | _TEXT,
)


@given(
    st.builds(
        Problem, _TEXT, _TEXT, _FUNCTION | _INPUT_OUTPUT, _TEXTS, _TEXTS, _TEXTS, prefix=_TEXT
    )
)
def test_json_gives_an_equal_problem(problem):
    text = problem.to_json()
    assert "\n" not in text
    assert Problem.from_json(text) == problem


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "[]",
        "{}",
        '{"id": "a"}',
        '{"id": "a", "prompt": "b", "tests": 3, "stop": [], "solutions": [],'
        ' "wrong_solutions": []}',
        '{"id": "a", "prompt": "b", "tests": {"cases": [["x"]]}, "stop": [], "solutions": [],'
        ' "wrong_solutions": []}',
    ],
)
def test_another_text_is_refused(text):
    with pytest.raises(ValueError):
        Problem.from_json(text)
