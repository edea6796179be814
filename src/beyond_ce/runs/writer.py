"""A model that continues texts, for data that it writes itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from beyond_ce.errors import UsageError
from beyond_ce.generation import generate
from beyond_ce.models.base import DTYPES
from beyond_ce.runs.inputs import named_input
from beyond_ce.runs.loading import Loaded, load
from beyond_ce.settings import COUNT, SOURCE, one_of, takes
from beyond_ce.storage.hub import checkpoint_folder
from beyond_ce.tokenizers.base import Tokenizer

_MODEL = "dataset.writer.model"


class Writer:
    """Cuts texts into pieces, and writes the second part of each anew, greedily.

    Args:
        model: a folder with a checkpoint and its tokenizer, their name on the Hugging Face hub, or
            a run's folder; read on first use. It runs on the GPU, if there is one.
        prompt_tokens: of a piece, left as they are.
        new_tokens: that follow them, fewer if the model ends its text before.
        pieces: how many of the pieces that the texts have, spread evenly; all if they have fewer.
        batch_size: pieces at a time.
        dtype: of the weights, float32 or bfloat16.
    """

    @takes(
        "dataset.writer",
        model=SOURCE,
        prompt_tokens=COUNT,
        new_tokens=COUNT,
        pieces=COUNT,
        batch_size=COUNT,
        dtype=one_of(*DTYPES),
    )
    def __init__(
        self,
        model: str,
        prompt_tokens: int,
        new_tokens: int,
        pieces: int,
        batch_size: int,
        dtype: str,
    ) -> None:
        self.model = model
        self.prompt_tokens = prompt_tokens
        self.new_tokens = new_tokens
        self.pieces = pieces
        self.batch_size = batch_size
        self.dtype = dtype

    def definition(self, cache_dir: Path) -> dict[str, object]:
        """What the texts depend on besides those that it reads, as JSON values."""
        return {
            "model": [i["digest"] for i in named_input(_MODEL, self.model, cache_dir).values()],
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "pieces": self.pieces,
            "dtype": self.dtype,
        }

    def __call__(self, texts: Callable[[], Iterable[str]], done: int = 0) -> Iterator[list[str]]:
        """Yields the pieces in batches, in the order of the texts.

        Args:
            texts: gives them, the same each time: they are read twice, to count the pieces first.
            done: how many of the first pieces to leave out.

        Raises:
            UsageError: no text has a whole piece, or there is no such model.
        """
        loaded = load(checkpoint_folder(self.model, _MODEL))
        length = self.prompt_tokens + self.new_tokens
        total = sum(len(row) // length for row in _encoded(loaded.tokenizer, texts()))
        if not total:
            raise UsageError(
                f"no text has {length} tokens: lower dataset.writer.prompt_tokens or "
                "dataset.writer.new_tokens"
            )
        wanted = np.linspace(0, total - 1, min(self.pieces, total)).round().astype(int)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded.model.to(device, DTYPES[self.dtype])
        prompts = self._prompts(loaded.tokenizer, texts(), length, set(wanted.tolist()))
        left = itertools.islice(prompts, done, None)
        title = "texts that the model writes"
        with tqdm(total=len(wanted), initial=done, desc=title, unit="text") as bar:
            while batch := list(itertools.islice(left, self.batch_size)):
                yield self._continued(loaded, batch)
                bar.update(len(batch))

    def _prompts(
        self, tokenizer: Tokenizer, texts: Iterable[str], length: int, wanted: set[int]
    ) -> Iterator[list[int]]:
        """The beginnings of the wanted pieces, by their number among all."""
        number = 0
        for row in _encoded(tokenizer, texts):
            for start in range(0, len(row) - length + 1, length):
                if number in wanted:
                    yield row[start : start + self.prompt_tokens]
                number += 1

    def _continued(self, loaded: Loaded, prompts: list[list[int]]) -> list[str]:
        begun = [loaded.start + prompt for prompt in prompts]
        found = generate(loaded.model, begun, self.new_tokens, eos_id=loaded.end_ids)
        pairs = zip(prompts, found.tokens, strict=True)
        return [loaded.tokenizer.decode(prompt + new) for prompt, new in pairs]


def _encoded(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[list[int]]:
    for text in texts:
        yield from tokenizer.encode([text])
