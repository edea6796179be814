from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyond_ce.data import ChoiceLanguage, MarkovChain
from beyond_ce.data.languages import Structure
from beyond_ce.errors import UsageError

SIZES: dict[str, Any] = {
    **{"train_documents": 40, "validation_documents": 2, "test_documents": 3},
    **{"length": 500, "sequence_length": 32, "seed": 0},
}


def chain(cache_dir: Path | str, **options: Any) -> MarkovChain:
    return MarkovChain(
        **{"states": 5, "sharpness": 2.0, **SIZES, **options, "cache_dir": cache_dir}
    )


def choices(cache_dir: Path | str, **options: Any) -> ChoiceLanguage:
    law = {"choices": 3, "consequences": 4, "distance": 8}
    return ChoiceLanguage(**{**law, **SIZES, **options, "cache_dir": cache_dir})


def test_letters_follow_the_transitions(tmp_path: Path) -> None:
    data = chain(tmp_path)
    law = data.transitions()
    assert law.shape == (5, 5)
    assert law.sum(1) == pytest.approx(np.ones(5))
    pairs = Counter(
        pair
        for row in data.load()["train"]
        for pair in zip(row["text"], row["text"][1:], strict=False)
    )
    for a, row in zip("abcde", law, strict=True):
        total = sum(count for (first, _), count in pairs.items() if first == a)
        for b, p in zip("abcde", row, strict=True):
            tolerance = 4 * (p * (1 - p) / total) ** 0.5
            assert abs(pairs[a, b] / total - p) <= tolerance


def test_every_document_has_the_law_of_its_chain(tmp_path: Path) -> None:
    data = chain(tmp_path)
    splits = data.load()
    assert {split: len(rows) for split, rows in splits.items()} == data.documents
    for rows in splits.values():
        for row in rows:
            assert json.loads(row["structure"]) == data.transitions().tolist()
            assert len(row["text"]) == 500


def test_sharpness_zero_is_uniform(tmp_path: Path) -> None:
    assert chain(tmp_path, sharpness=0).transitions() == pytest.approx(np.full((5, 5), 0.2))


def test_splits_and_seeds_differ(tmp_path: Path) -> None:
    texts = [row["text"] for rows in chain(tmp_path).load().values() for row in rows]
    texts += [row["text"] for rows in chain(tmp_path, seed=1).load().values() for row in rows]
    assert len(set(texts)) == len(texts)


def test_a_choice_decides_its_consequences(tmp_path: Path) -> None:
    data = choices(tmp_path)
    words = data.words()
    for column in zip(*words, strict=True):
        assert len(set(column)) == 3
    for row in data.load()["train"]:
        text, structure = row["text"], Structure.of(row["structure"])
        assert structure.choices == list(range(0, 500, 8))
        for place in structure.choices:
            word = words["ABC".index(text[place])]
            assert text[place + 1 : place + 5] == word[: len(text) - place - 1]
        assert structure.free == [i for i in range(500) if i % 8 >= 5]
        assert {text[i] for i in structure.free} == set("012")


def test_choices_and_free_letters_are_equally_hard(tmp_path: Path) -> None:
    rows = list(choices(tmp_path).load()["train"])
    structure = Structure.of(rows[0]["structure"])
    for places in (structure.choices, structure.free):
        counts = Counter(row["text"][place] for row in rows for place in places)
        assert len(counts) == 3
        total = sum(counts.values())
        assert all(abs(count / total - 1 / 3) < 4 * total**-0.5 / 2 for count in counts.values())


@given(st.integers(0, 20), st.integers(1, 20))
def test_a_part_of_a_structure(start: int, size: int) -> None:
    whole = Structure([0, 8, 16], [5, 6, 7, 13, 14, 15])
    part = whole.part(start, size)
    assert [start + place for place in part.choices] == [
        place for place in whole.choices if start <= place < start + size
    ]
    assert all(0 <= place < size and start + place in whole.free for place in part.free)


def test_consequences_end_before_the_next_choice(tmp_path: Path) -> None:
    assert choices(tmp_path, consequences=7).load()
    with pytest.raises(UsageError, match=r"dataset.consequences=8 letters do not fit"):
        choices(tmp_path, consequences=8)
