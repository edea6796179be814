from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beyond_ce.data import Agreement
from beyond_ce.errors import UsageError

SMALL: dict[str, Any] = {
    **{"letters": 6, "length": 3, "articles": 3, "seed": 0},
    **{"train_size": 100, "validation_size": 10, "test_size": 20},
}


def agreement(cache_dir: Path | str, **options: Any) -> Agreement:
    return Agreement(**{**SMALL, **options}, cache_dir=cache_dir)


def test_translations_follow_the_rules(tmp_path: Path) -> None:
    """Letter by letter, with the permutation and the classes read off the answers themselves."""
    data = agreement(tmp_path)
    letter_of: dict[int, str] = {}
    article_of: dict[str, str] = {}
    for rows in data.load().values():
        for row in rows:
            word = ["abcdef".index(letter) for letter in row["prompt"]]
            article, translation = row["answer"][0], row["answer"][1:]
            for j, letter in enumerate(translation):
                number = (word[j] + word[(j + 1) % 3]) % 6
                assert letter_of.setdefault(number, letter) == letter
            assert article_of.setdefault(translation[-1], article) == article
    assert sorted(letter_of.values()) == list("abcdef")
    assert Counter(article_of.values()) == {"0": 2, "1": 2, "2": 2}


def test_no_word_is_in_two_splits(tmp_path: Path) -> None:
    splits = agreement(tmp_path).load()
    assert {split: len(rows) for split, rows in splits.items()} == {
        **{"test": 13, "validation": 10},
        "train": 100,
    }
    words = [row["prompt"] for rows in splits.values() for row in rows]
    assert len(set(words)) == len(words)


def test_of_few_words_training_gets_the_rest(tmp_path: Path) -> None:
    splits = agreement(tmp_path, train_size=1000, validation_size=1000, test_size=1000).load()
    assert {split: len(rows) for split, rows in splits.items()} == {
        **{"test": 21, "validation": 21},
        "train": 216 - 42,
    }


def test_seeds_are_other_languages(tmp_path: Path) -> None:
    word = np.array([[0, 1, 2]])
    translations = {
        tuple(agreement(tmp_path, letters=20, seed=seed).translate(word)[0][0].tolist())
        for seed in range(5)
    }
    assert len(translations) == 5


def test_more_articles_than_letters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dataset.articles=7 exceeds dataset.letters=6"):
        agreement(tmp_path, articles=7)
