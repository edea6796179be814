"""Tells a story: a plot, whose beats and words are drawn, about two characters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from beyond_ce.data.sampling import Below
from beyond_ce.data.stories.adventures import ADVENTURES
from beyond_ce.data.stories.friendships import FRIENDSHIPS
from beyond_ce.data.stories.lexicon import LEXICON
from beyond_ce.data.stories.phrases import PHRASES

PLOTS = ADVENTURES | FRIENDSHIPS

_PRONOUNS = (
    {"he": "she", "him": "her", "his": "her"},
    {"he": "he", "him": "him", "his": "his"},
)
_BRACES = re.compile(r"\{([^{}]+)\}")
_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiou])")
_LEAST, _MOST = 5, 15  # mentions of both names together
_LEAST_OF_EACH = 3


@dataclass(frozen=True)
class Character:
    """Somebody in a story.

    Attributes:
        pronouns: "he", "him" and "his" -> the character's own.
    """

    name: str
    pronouns: dict[str, str]


def characters(names: Sequence[str], below: Below) -> dict[str, Character]:
    """Two characters, A and B, with different names; a name always has the same pronouns."""
    first = below(len(names))
    second = (first + 1 + below(len(names) - 1)) % len(names)
    return {
        role: Character(names[i], _PRONOUNS[i % len(_PRONOUNS)])
        for role, i in (("A", first), ("B", second))
    }


def tell(plot: str, cast: dict[str, Character], below: Below) -> str:
    """A story of 5 to 15 mentions of the characters by name, each of them three times or more and
    at least once within a sentence, so that names can be told from other words."""
    while True:
        fixed: dict[str, str] = {}
        beats = [_fill(beat[below(len(beat))], cast, fixed, below) for beat in PLOTS[plot]]
        # A phrase may be empty and leave two spaces.
        text = _BEFORE_VOWEL.sub(r"\1n ", " ".join(" ".join(beats).split()))
        names = [character.name for character in cast.values()]
        counts = [len(re.findall(rf"\b{name}\b", text)) for name in names]
        within = all(re.search(rf"[a-z,] {name}\b", text) for name in names)
        if within and min(counts) >= _LEAST_OF_EACH and _LEAST <= sum(counts) <= _MOST:
            return text


def _fill(text: str, cast: dict[str, Character], fixed: dict[str, str], below: Below) -> str:
    """The text with everything in braces replaced, as `phrases` describes it."""
    parts = list(_split(text))
    for i in range(1, len(parts), 2):
        key = parts[i]
        role, _, form = key.partition(".")
        if role in cast:
            pronoun = cast[role].pronouns.get(form.lower(), cast[role].name)
            parts[i] = pronoun.capitalize() if form.istitle() else pronoun
        elif key.startswith("="):
            phrases = PHRASES[key[1:]]
            parts[i] = _fill(phrases[below(len(phrases))], cast, fixed, below)
        else:
            words = LEXICON[key.rstrip("0123456789")]
            word = words[below(len(words))]
            parts[i] = fixed.setdefault(key, word) if key[-1].isdigit() else word
    return "".join(parts)


@cache
def _split(text: str) -> tuple[str, ...]:
    """Text and keys in braces, in turns."""
    return tuple(_BRACES.split(text))


@cache
def known_words() -> frozenset[str]:
    """All words in lower case that a story can have besides its names."""
    plots = (sentence for beats in PLOTS.values() for beat in beats for sentence in beat)
    phrases = (phrase for each in PHRASES.values() for phrase in each)
    words = (word for each in LEXICON.values() for word in each)
    pronouns = (word for each in _PRONOUNS for word in each.values())
    parts = (*plots, *phrases, *words, *pronouns, "an")
    texts = (_BRACES.sub(" ", text).lower() for text in parts)
    return frozenset(word for text in texts for word in re.findall("[a-z]+", text))
