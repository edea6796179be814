"""Text as prompts and answers: a passage, and the words that follow it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from beyond_ce.data.base import PromptAnswerData
from beyond_ce.data.cache import Splits
from beyond_ce.data.corpus import Corpus
from beyond_ce.data.example import Example
from beyond_ce.errors import UsageError
from beyond_ce.settings import COUNT, PATH, takes


class Continuations(PromptAnswerData):
    """Pieces of a corpus, for models that read a prompt and write an answer: prefix language
    modelling, as in Raffel et al. 2020 (T5), section 3.3.1.

    An answer of `answer_words` follows every prompt of `prompt_words`. The next prompt starts
    `answer_words` later, so that every word but a document's first is in an answer. What is left
    at the end of a document is dropped. Words are what white space separates, and a single space
    joins them. Splits are the corpus's, by document; the task is the corpus's name.

    Args:
        corpus: the documents.
        prompt_words: words of a prompt.
        answer_words: words of an answer.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
    """

    @takes("dataset", prompt_words=COUNT, answer_words=COUNT, cache_dir=PATH)
    def __init__(
        self, *, corpus: Corpus, prompt_words: int, answer_words: int, cache_dir: str | Path
    ) -> None:
        self.corpus = corpus
        self.name = f"{corpus.name}_continuations"
        self.test_splits = corpus.test_splits
        self.prompt_words = prompt_words
        self.answer_words = answer_words
        self.cache_dir = Path(cache_dir)

    def _definition(self) -> dict[str, Any]:
        return {
            "corpus": self.corpus.fingerprint(),
            "prompt_words": self.prompt_words,
            "answer_words": self.answer_words,
        }

    @property
    def hub_name(self) -> str | None:
        return self.corpus.hub_name

    def _splits(self) -> Splits:
        for split, documents in self.corpus.load().items():
            examples = self._examples(row["text"] for row in documents)
            if (first := next(examples, None)) is None:
                raise UsageError(
                    f"dataset {self.corpus.name} has no document of {self.prompt_words} + "
                    f"{self.answer_words} words in the split '{split}': lower "
                    "dataset.prompt_words or dataset.answer_words, or give more text"
                )
            yield split, chain([first], examples)

    def _examples(self, texts: Iterator[str]) -> Iterator[Example]:
        for text in texts:
            for prompt, answer in pieces(text, self.prompt_words, self.answer_words):
                yield Example(prompt, answer, self.corpus.name)


def pieces(text: str, prompt_words: int, answer_words: int) -> Iterator[tuple[str, str]]:
    """The prompts and answers of a text, as `Continuations` describes them."""
    words = text.split()
    last = len(words) - prompt_words - answer_words
    for start in range(0, last + 1, answer_words):
        middle = start + prompt_words
        yield " ".join(words[start:middle]), " ".join(words[middle : middle + answer_words])
