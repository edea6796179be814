"""Languages of letters whose law is known exactly: Markov chains, and texts with marked choices."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beyond_ce.data.base import PackedData
from beyond_ce.data.cache import Splits, load_or_write
from beyond_ce.data.sampling import bit_generator, integers_below, sample_distinct
from beyond_ce.errors import UsageError
from beyond_ce.settings import COUNT, PATH, SEED, number, takes, whole
from beyond_ce.storage.reading import parse_json

if TYPE_CHECKING:
    import datasets

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_DOCUMENTS_PER_BATCH = 100


class _Document(NamedTuple):
    text: str
    task: str
    structure: str


@dataclass(frozen=True)
class Structure:
    """Which letters of a document decide what follows, and which decide nothing.

    Attributes:
        choices: the places of the letters that decide those after them.
        free: the places of letters that could be others without any consequence.
    """

    choices: list[int]
    free: list[int]

    @classmethod
    def of(cls, text: str) -> Structure:
        """From a document's column `structure`."""
        return cls(**parse_json(text))

    def part(self, start: int, size: int) -> Structure:
        """That of the `size` letters from `start` on, counted from there."""
        places = [
            [place - start for place in own if start <= place < start + size]
            for own in (self.choices, self.free)
        ]
        return Structure(*places)


class Language(PackedData):
    """Documents of letters that are drawn one by one.

    Args:
        train_documents, validation_documents, test_documents: of each split.
        length: letters of a document.
        sequence_length: tokens that a model reads at once: the length of a training row.
        seed: of the language and of its documents; independent of the run's.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
    """

    columns = ("text", "task", "structure")
    test_splits: tuple[str, ...] = ("test",)

    @takes(
        "dataset",
        train_documents=COUNT,
        validation_documents=COUNT,
        test_documents=COUNT,
        length=whole(2, 2**20),
        sequence_length=whole(1, 2**24),
        seed=SEED,
        cache_dir=PATH,
    )
    def __init__(
        self,
        *,
        train_documents: int,
        validation_documents: int,
        test_documents: int,
        length: int,
        sequence_length: int,
        seed: int,
        cache_dir: str | Path,
    ) -> None:
        self.documents = {
            "train": train_documents,
            "validation": validation_documents,
            "test": test_documents,
        }
        self.length = length
        self.sequence_length = sequence_length
        self.seed = seed
        self.cache_dir = Path(cache_dir)

    def _definition(self) -> dict[str, Any]:
        # Without sequence_length: the documents do not depend on it.
        return {"documents": self.documents, "length": self.length, "seed": self.seed}

    def load(self) -> dict[str, datasets.Dataset]:
        return load_or_write(self.cache_folder, self._splits, self.columns, _DOCUMENTS_PER_BATCH)

    def _splits(self) -> Splits:
        for stream, (split, count) in enumerate(self.documents.items(), start=1):
            yield split, self._draw(count, bit_generator(self.seed, stream))

    @abstractmethod
    def _draw(self, count: int, bits: np.random.PCG64) -> Iterator[_Document]:
        """`count` documents of `length` letters."""


class MarkovChain(Language):
    """Letters of which each depends on the one before and on nothing else.

    The first letter of a document is uniform. The probabilities of the letters after each letter
    are drawn once: exponential variables to the power of `sharpness`, divided by their sum. The
    column `structure` has them, as a JSON list of rows.

    Args:
        states: number of letters.
        sharpness: 0 for uniform letters, 1 for probabilities that are uniform on the simplex; the
            larger it is, the closer each letter comes to deciding the next one.
        settings: as for `Language`.
    """

    name = "markov_chain"

    @takes("dataset", states=whole(2, len(_LETTERS)), sharpness=number(0, 100))
    def __init__(self, *, states: int, sharpness: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.states = states
        self.sharpness = sharpness

    def _definition(self) -> dict[str, Any]:
        law = {"states": self.states, "sharpness": self.sharpness}
        return super()._definition() | law

    def transitions(self) -> NDArray[np.float64]:
        """[states, states]: the probability of each letter (column) after each letter (row)."""
        uniform = _uniform(bit_generator(self.seed, 0), (self.states, self.states))
        weights = (-np.log1p(-uniform)) ** self.sharpness
        rows: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
        return rows

    def _draw(self, count: int, bits: np.random.PCG64) -> Iterator[_Document]:
        transitions = self.transitions()
        structure = json.dumps(transitions.tolist())
        limits = transitions.cumsum(1)
        state = integers_below(bits, self.states, count)
        states = [state]
        for _ in range(self.length - 1):
            drawn = _uniform(bits, (count, 1))
            # Rounding may leave the last limit just below 1.
            state = np.minimum((drawn >= limits[state]).sum(1), self.states - 1)
            states.append(state)
        for row in np.stack(states, 1).tolist():
            yield _Document("".join(_LETTERS[i] for i in row), self.name, structure)


class ChoiceLanguage(Language):
    """Blocks of one letter that decides the letters after it, and of letters that decide nothing.

    A block starts with its choice, one of `choices` capital letters with equal probability. The
    `consequences` letters after it are those of that choice: random lower-case letters, drawn once,
    each of which gives the choice away. Then come `distance` - 1 - `consequences` free letters,
    each one of `choices` digits with equal probability. A choice and a free letter are thus equally
    hard to predict, and everything else follows from the last choice. The column `structure` has
    the places of choices and free letters (see `Structure`).

    Args:
        choices: number of different choices, and of different free letters; at most ten.
        consequences: letters that a choice decides.
        distance: letters from one choice to the next.
        settings: as for `Language`.

    Raises:
        UsageError: the consequences of a choice do not end before the next one.
    """

    name = "choice_language"

    @takes("dataset", choices=whole(2, 10), consequences=whole(0, 2**10), distance=COUNT)
    def __init__(self, *, choices: int, consequences: int, distance: int, **settings: Any) -> None:
        super().__init__(**settings)
        if consequences >= distance:
            raise UsageError(
                f"dataset.consequences={consequences} letters do not fit between two choices: "
                f"lower it, or raise dataset.distance={distance}"
            )
        self.choices = choices
        self.consequences = consequences
        self.distance = distance

    def _definition(self) -> dict[str, Any]:
        law = {
            "choices": self.choices,
            "consequences": self.consequences,
            "distance": self.distance,
        }
        return super()._definition() | law

    def words(self) -> list[str]:
        """The consequences of each choice; no two have the same letter in the same place."""
        bits = bit_generator(self.seed, 0)
        columns = [
            sample_distinct(bits, len(_LETTERS), self.choices).tolist()
            for _ in range(self.consequences)
        ]
        return ["".join(_LETTERS[column[i]] for column in columns) for i in range(self.choices)]

    def _draw(self, count: int, bits: np.random.PCG64) -> Iterator[_Document]:
        words = self.words()
        blocks = -(-self.length // self.distance)
        free = self.distance - 1 - self.consequences
        places = range(self.length)
        first_free = 1 + self.consequences
        structure = json.dumps(
            {
                "choices": [i for i in places if i % self.distance == 0],
                "free": [i for i in places if i % self.distance >= first_free],
            }
        )
        chosen = integers_below(bits, self.choices, (count, blocks)).tolist()
        filling = integers_below(bits, self.choices, (count, blocks, free)).tolist()
        for choices, digits in zip(chosen, filling, strict=True):
            parts = [
                f"{_LETTERS[choice].upper()}{words[choice]}{''.join(map(str, between))}"
                for choice, between in zip(choices, digits, strict=True)
            ]
            yield _Document("".join(parts)[: self.length], self.name, structure)


def _uniform(bits: np.random.PCG64, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Multiples of 2**-53 in [0, 1)."""
    raw = bits.random_raw(int(np.prod(shape))) >> np.uint64(11)
    uniform: NDArray[np.float64] = raw.reshape(shape).astype(np.float64) * 2.0**-53
    return uniform
