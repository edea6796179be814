"""Generated stories, and corpora mixed with them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from beyond_ce.data import GeneratedStories, MixedText
from beyond_ce.data.stories.lexicon import LEXICON
from beyond_ce.data.stories.names import make_names
from beyond_ce.data.stories.telling import PLOTS, known_words
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.names import story_names


def stories(cache_dir: Path, **settings: Any) -> GeneratedStories:
    defaults: dict[str, Any] = {"stories": 1500, "names": 120, "seed": 0, "sequence_length": 128}
    shares = {"validation_share": 0.1, "test_share": 0.1}
    return GeneratedStories(cache_dir=cache_dir, **{**defaults, **shares, **settings})


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [each.text for each in stories(tmp_path_factory.mktemp("stories")).documents()]


def test_they_are_the_same_every_time_and_others_with_another_seed(
    texts: list[str], tmp_path: Path
) -> None:
    assert texts[:300] == [d.text for d in stories(tmp_path, stories=300).documents()]
    other = [d.text for d in stories(tmp_path, stories=300, seed=1).documents()]
    assert not set(other) & set(texts)


def test_each_has_two_characters_with_5_to_15_mentions(texts: list[str], tmp_path: Path) -> None:
    names = set(make_names(120, known_words(), 0))
    used = set()
    for text in texts:
        capitals = Counter(word for word in re.findall(r"\b[A-Z][a-z]+\b", text) if word in names)
        assert len(capitals) == 2 and min(capitals.values()) >= 3
        assert 5 <= sum(capitals.values()) <= 15
        assert set(story_names(text)) == set(capitals), text
        used |= set(capitals)
    assert used == names


def test_words_and_forms_vary(texts: list[str]) -> None:
    content = {word for words in LEXICON.values() for word in words}
    assert len(content) > 500 and all(word == word.lower() for word in content)
    seen = {word for text in texts for word in re.findall(r"\b[a-z]+\b", text)}
    assert len(seen) > 700 and seen <= known_words()
    assert len(set(texts)) == len(texts)
    assert not any("{" in text or "  " in text or re.search(r"\ba [aeiou]", text) for text in texts)
    assert sum('"' in text for text in texts) > len(texts) / 2


def test_near_duplicates_are_rare(texts: list[str]) -> None:
    """Stories of the same plot whose names are left out: few share half of their word triples."""
    names = set(make_names(120, known_words(), 0))
    shingles = []
    for text in texts[:400]:
        words = [word for word in re.findall(r"\w+", text) if word not in names]
        shingles.append(set(zip(words, words[1:], words[2:], strict=False)))
    pairs = near = 0
    for i, one in enumerate(shingles):
        for other in shingles[:i]:
            pairs += 1
            near += 2 * len(one & other) > len(one | other)
    assert near / pairs < 0.001


def test_every_plot_is_told(tmp_path: Path) -> None:
    counts = Counter(each.task for each in stories(tmp_path).documents())
    assert counts.keys() == PLOTS.keys() and len(PLOTS) > 12
    assert min(counts.values()) > 1500 / len(PLOTS) / 2


def test_names_can_be_pronounced_and_are_no_words() -> None:
    few, many = make_names(40, frozenset(), 3), make_names(2000, frozenset(), 3)
    assert many[:40] == few and len(set(many)) == 2000
    assert all(re.fullmatch("[A-Z][a-z]{3,9}", name) for name in many)
    assert all(re.search("[aeiou]", name) for name in many)
    assert few[0] not in make_names(40, frozenset({few[0].lower()}), 3)


def test_names_of_all_splits_are_the_same(tmp_path: Path) -> None:
    splits = stories(tmp_path, names=20).load()
    names = {
        split: {name for text in rows["text"] for name in story_names(text)}
        for split, rows in splits.items()
    }
    assert names["train"] == names["validation"] == names["test"] and len(names["train"]) == 20


def test_settings_define_them(tmp_path: Path) -> None:
    one = stories(tmp_path)
    others = [stories(tmp_path, names=121), stories(tmp_path, seed=1), stories(tmp_path, stories=9)]
    assert len({each.fingerprint() for each in (one, *others)}) == 4
    assert one.fingerprint() == stories(tmp_path / "elsewhere").fingerprint()
    with pytest.raises(UsageError, match="dataset.names=1: give at least 2"):
        stories(tmp_path, names=1)


def mixed(cache_dir: Path, share: float, other: int) -> MixedText:
    return MixedText(
        main=stories(cache_dir, stories=200),
        other=stories(cache_dir, stories=other, seed=5),
        other_share=share,
        sequence_length=32,
        cache_dir=cache_dir,
    )


@pytest.mark.parametrize("other", [60, 2000])
def test_a_mix_has_its_share_of_characters(other: int, tmp_path: Path) -> None:
    data = mixed(tmp_path, 0.75, other)
    splits, main = data.load(), data.main.load()
    train = splits["train"]["text"]
    own = list(main["train"]["text"])
    assert train[: len(own)] == own
    added = train[len(own) :]
    size = sum(map(len, added))
    assert size / (size + sum(map(len, own))) == pytest.approx(0.75, abs=0.01)
    source = list(data.other.load()["train"]["text"])
    assert added == [source[i % len(source)] for i in range(len(added))]
    for split in ("validation", "test"):
        assert splits[split]["text"] == main[split]["text"]


def test_corpora_and_share_define_a_mix(tmp_path: Path) -> None:
    one = mixed(tmp_path, 0.75, 60)
    assert one.fingerprint() == mixed(tmp_path, 0.75, 60).fingerprint()
    assert one.fingerprint() != mixed(tmp_path, 0.7, 60).fingerprint()
    assert one.fingerprint() != mixed(tmp_path, 0.75, 61).fingerprint()
    assert one.name == "generated_stories_with_generated_stories"
    assert one.hub_name is None
