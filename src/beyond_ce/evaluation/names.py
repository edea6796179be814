"""The names in stories, and random names of exactly two tokens to put in their place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from beyond_ce.data.sampling import Below, bit_generator, sample_distinct
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.evaluator import shared_start

if TYPE_CHECKING:
    from beyond_ce.tokenizers.base import Tokenizer

_CAPITALISED = re.compile(r"\b[A-Z][a-z]+\b")
_WITHIN = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+\b")
_LOWER = re.compile(r"\b[a-z]+\b")
_LEAST = 3  # times that a name is in its story
_TRIED = 8_000  # combinations of two tokens


@dataclass(frozen=True)
class TwoTokenName:
    """A name that is two tokens wherever it follows a space.

    Attributes:
        tokens: their ids.
    """

    text: str
    tokens: tuple[int, int]


@dataclass
class TrainingNames:
    """What there is in the training texts.

    Attributes:
        names: by `story_names`.
        first: the tokens that one of them begins with.
        second: the tokens that come second in one of them.
        pairs: the neighbouring tokens of every word with a capital letter, name or not.
    """

    names: set[str] = field(default_factory=set)
    first: set[int] = field(default_factory=set)
    second: set[int] = field(default_factory=set)
    pairs: set[tuple[int, int]] = field(default_factory=set)


def story_names(text: str) -> list[str]:
    """The names in a story, in the order of their first mention.

    A name is a word with a capital letter and small ones, of a to z, that is three times in the
    text, at least once after a small letter or a comma, and so not at the start of a sentence, and
    nowhere without its capital. "Mom" may count as one, or "Monday".
    """
    counts = Counter(_CAPITALISED.findall(text))
    frequent = [word for word, count in counts.items() if count >= _LEAST]
    if not frequent:
        return []
    within, lower = set(_WITHIN.findall(text)), set(_LOWER.findall(text))
    return [word for word in frequent if word in within and word.lower() not in lower]


def tokens_of(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    """The tokens of each word where it follows a space, without a token of the space alone."""
    before, after = "and", "was"
    frame, *texts = tokenizer.encode(
        [f"{before} {after}", *(f"{before} {word} {after}" for word in words)]
    )
    blank: dict[int, bool] = {}
    found = []
    for ids in texts:
        start = shared_start(ids, frame)
        end = len(ids) - shared_start(ids[start:][::-1], frame[start:][::-1])
        for i in ids[start:end]:
            if i not in blank:
                blank[i] = not tokenizer.decode([i]).strip()
        while start < end and blank[ids[start]]:
            start += 1
        while start < end and blank[ids[end - 1]]:
            end -= 1
        found.append(ids[start:end])
    return found


def read_names(texts: Iterable[str], tokenizer: Tokenizer) -> TrainingNames:
    """The names of the training texts and their tokens."""
    found = TrainingNames()
    words: set[str] = set()
    for text in texts:
        words.update(_CAPITALISED.findall(text))
        found.names.update(story_names(text))
    for word, ids in zip(ordered := sorted(words), tokens_of(tokenizer, ordered), strict=True):
        found.pairs.update(pairwise(ids))
        if word in found.names:
            found.first.update(ids[:1])
            found.second.update(ids[1:2])
    return found


def two_token_names(
    tokenizer: Tokenizer, training: TrainingNames, known_tokens: bool, seed: int
) -> list[TwoTokenName]:
    """Random names of two tokens that do not follow each other in any word of training.

    The first token begins with a capital letter, and the others are small letters.

    Args:
        known_tokens: whether a name of training must begin with the first token, and one must have
            the second token in second place.

    Raises:
        UsageError: the vocabulary has no such tokens.
    """
    texts = [tokenizer.decode([i]).strip() for i in range(tokenizer.vocab_size)]

    def fitting(pattern: str, known: set[int]) -> list[str]:
        kept = {
            text
            for i, text in enumerate(texts)
            if re.fullmatch(pattern, text) and (not known_tokens or i in known)
        }
        return sorted(kept)

    first = fitting("[A-Z][a-z]*", training.first)
    second = fitting("[a-z]+", training.second)
    total = len(first) * len(second)
    drawn = sample_distinct(bit_generator(seed), total, min(total, _TRIED)).tolist()
    # Two ways of composing a name give it once.
    names = list(dict.fromkeys(first[i // len(second)] + second[i % len(second)] for i in drawn))
    found = []
    for name, ids in zip(names, tokens_of(tokenizer, names), strict=True):
        if len(ids) != 2 or tokenizer.decode(ids).strip() != name:
            continue
        pair = ids[0], ids[1]
        known = pair[0] in training.first and pair[1] in training.second
        if pair not in training.pairs and (known or not known_tokens):
            found.append(TwoTokenName(name, pair))
    if not found:
        raise UsageError(
            f"of {len(names)} names of two tokens none is new: choose another tokenizer.vocab_size"
            + (", or set evaluator.known_tokens=false" if known_tokens else "")
        )
    return found


def rename(
    text: str, choice: Sequence[TwoTokenName], below: Below
) -> tuple[str, list[TwoTokenName]]:
    """A story with its names replaced, each by the same one throughout, and the new names.

    They have different first tokens. In the story they are nowhere but in place of the old ones, so
    that a name's two tokens, one after the other, are always a mention of it.

    Raises:
        UsageError: there are too few names to choose from.
    """
    old = story_names(text)
    new: list[TwoTokenName] = []
    for name in old:
        start = below(len(choice))
        for i in range(len(choice)):
            candidate = choice[(start + i) % len(choice)]
            if candidate.text not in text and all(_apart(candidate, other) for other in new):
                new.append(candidate)
                break
        else:
            raise UsageError(
                f"of {len(choice)} names of two tokens none can replace {name} in a story: choose "
                "another tokenizer.vocab_size, or set evaluator.known_tokens=false"
            )
    if not old:
        return text, []
    replacement = dict(zip(old, (name.text for name in new), strict=True))
    names = re.compile(rf"\b({'|'.join(old)})\b")
    return names.sub(lambda match: replacement[match[1]], text), new


def _apart(one: TwoTokenName, other: TwoTokenName) -> bool:
    """Whether two names begin with different tokens, and neither is in the other."""
    different = one.tokens[0] != other.tokens[0]
    return different and one.text not in other.text and other.text not in one.text
