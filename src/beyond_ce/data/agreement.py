"""Words whose article agrees with a letter that comes later: a later one decides an earlier one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from beyond_ce.data.base import PromptAnswerData
from beyond_ce.data.cache import Splits
from beyond_ce.data.example import Example
from beyond_ce.data.sampling import Integers, bit_generator, divide, sample_distinct
from beyond_ce.errors import UsageError
from beyond_ce.settings import COUNT, PATH, SEED, takes, whole

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MOST_LENGTH = 12


class Agreement(PromptAnswerData):
    """`gdab` -> `2caqf`: a word, and its translation with an article in front of it.

    Letter j of the translation follows from letters j and j + 1 of the word (from the last one and
    the first for the last): the sum of their numbers modulo the number of letters, replaced by
    a permutation that is drawn once. The article is a digit, the class of the translation's last
    letter; the letters are divided into `articles` classes of equal size, or nearly so, at random.
    Whoever writes from left to right must know the last letter before writing the first.

    All words are distinct. Of few words, testing and validation take at most a tenth each, and
    training the rest. The splits: "test", "validation" and "train"; the task is always "agreement".

    Args:
        letters: number of letters of the language.
        length: letters of a word.
        articles: number of articles.
        train_size, validation_size, test_size: words of each split.
        seed: of the language and of the draw; independent of the run's.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.

    Raises:
        UsageError: there are more articles than letters.
    """

    name = "agreement"
    test_splits = ("test",)

    @takes(
        "dataset",
        letters=whole(2, len(_LETTERS)),
        length=whole(2, _MOST_LENGTH),
        articles=whole(2, 10),
        train_size=COUNT,
        validation_size=COUNT,
        test_size=COUNT,
        seed=SEED,
        cache_dir=PATH,
    )
    def __init__(
        self,
        *,
        letters: int,
        length: int,
        articles: int,
        train_size: int,
        validation_size: int,
        test_size: int,
        seed: int,
        cache_dir: str | Path,
    ) -> None:
        if articles > letters:
            raise UsageError(
                f"dataset.articles={articles} exceeds dataset.letters={letters}: lower it"
            )
        self.letters = letters
        self.length = length
        self.articles = articles
        self.sizes = {"test": test_size, "validation": validation_size, "train": train_size}
        self.seed = seed
        self.cache_dir = Path(cache_dir)

    def _definition(self) -> dict[str, Any]:
        return {
            "letters": self.letters,
            "length": self.length,
            "articles": self.articles,
            "sizes": self.sizes,
            "seed": self.seed,
        }

    def translate(self, words: Integers) -> tuple[Integers, Integers]:
        """The translations [words, length] of `words` [words, length], and their articles [words];
        letters are numbers from 0 on."""
        bits = bit_generator(self.seed, 0)
        permutation = sample_distinct(bits, self.letters, self.letters)
        classes = sample_distinct(bits, self.letters, self.letters) % self.articles
        translations = permutation[(words + np.roll(words, -1, axis=1)) % self.letters]
        return translations, classes[translations[:, -1]]

    def _splits(self) -> Splits:
        total = self.letters**self.length
        wanted = sum(self.sizes.values())
        numbers = sample_distinct(bit_generator(self.seed, 1), total, min(wanted, total))
        words = np.stack(np.unravel_index(numbers, (self.letters,) * self.length), axis=1)
        for split, part in divide(words, self.sizes):
            yield split, self._examples(part)

    def _examples(self, words: Integers) -> Iterator[Example]:
        translations, articles = self.translate(words)
        for word, translation, article in zip(
            words.tolist(), translations.tolist(), articles.tolist(), strict=True
        ):
            yield Example(_text(word), f"{article}{_text(translation)}", self.name)


def _text(numbers: list[int]) -> str:
    return "".join(_LETTERS[number] for number in numbers)
