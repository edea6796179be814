"""Generated stories for children, whose names come from a list of any length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from beyond_ce.data.corpus import Corpus, Document
from beyond_ce.data.sampling import random_below
from beyond_ce.data.stories.names import MOST_NAMES, make_names
from beyond_ce.data.stories.telling import PLOTS, characters, known_words, tell
from beyond_ce.settings import COUNT, SEED, takes, whole

_STREAM = 1  # of random numbers; names have another one


class GeneratedStories(Corpus):
    """Short stories about two characters, in the manner of TinyStories (Eldan and Li, 2023,
    arXiv:2305.07759), which need no network.

    A story tells one of some fifteen plots, each a sequence of beats with several sentences to
    choose from, in about a thousand different words: 570 characters on average, with dialogue,
    pronouns and 5 to 15 mentions of the characters by name. The fewer names there are, the better
    each can be learned by heart, and the less a model needs induction to write one again. The task
    is the plot.

    Args:
        stories: their number, before they are divided into splits.
        names: how many different names they have, in every split the same ones.
        seed: seed of the draw; independent of the run's.
        settings: as for `Corpus`.
    """

    name = "generated_stories"

    @takes("dataset", stories=COUNT, names=whole(2, MOST_NAMES), seed=SEED)
    def __init__(self, *, stories: int, names: int, seed: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.stories = stories
        self.names = names
        self.seed = seed

    def identity(self) -> str:
        return f"{self.stories} stories with {self.names} names of seed {self.seed}"

    def documents(self) -> Iterator[Document]:
        names = make_names(self.names, known_words(), self.seed)
        below = random_below(self.seed, _STREAM)
        plots = list(PLOTS)
        for _ in range(self.stories):
            plot = plots[below(len(plots))]
            text = tell(plot, characters(names, below), below)
            yield Document(text, plot, self.split_of(text))
