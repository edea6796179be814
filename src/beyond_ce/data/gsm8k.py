"""Grade school word problems, answered step by step; the NTL paper's experiment with T5-3B."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from beyond_ce.data.base import PromptAnswerData
from beyond_ce.data.cache import Splits
from beyond_ce.data.example import Example
from beyond_ce.data.files import RowSource, text_of
from beyond_ce.errors import UsageError
from beyond_ce.settings import COUNT, NO_LIMIT, PATH, SEED, TEXT, optional, takes

MARKER = "####"
"""Precedes the final answer."""

_ANNOTATION = re.compile("<<.*?>>")
_THOUSANDS = re.compile("(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")


class GSM8K(PromptAnswerData):
    """GSM8K (Cobbe et al. 2021, arXiv 2110.14168): 7,473 training and 1,319 test problems.

    Prompt: the problem. Answer: its solution in steps, then a last line `#### N` with the result.
    The calculator annotations (`48/2 = <<48/2=24>>24`) are removed, and so are the thousands
    separators of N. Test split: "test". Validation is a part of the training file.

    NOTE: the paper's preparation also removes the separators from the problem and the steps. Here
    we keep those as they are written; only the scored result is normalised.

    Args:
        validation_size: number of training problems held out.
        seed: draws the held-out problems; independent of the run's seed.
        cache_dir: where the Arrow files go, in a folder named by `fingerprint`.
        max_train, max_test: use at most this many problems; null for all.
        path: a folder with train.jsonl and test.jsonl, plain or .gz; null for the folder gsm8k in
            $BEYOND_CE_DATA if there is one, else `openai/gsm8k` from the hub.
    """

    name = "gsm8k"
    test_splits: tuple[str, ...] = ("test",)

    @takes(
        "dataset",
        validation_size=COUNT,
        seed=SEED,
        cache_dir=PATH,
        max_train=NO_LIMIT,
        max_test=NO_LIMIT,
        path=optional(TEXT),
    )
    def __init__(
        self,
        *,
        validation_size: int,
        seed: int,
        cache_dir: str | Path,
        max_train: int | None = None,
        max_test: int | None = None,
        path: str | Path | None = None,
    ) -> None:
        self.sizes = {
            "validation_size": validation_size,
            "max_train": max_train,
            "max_test": max_test,
        }
        self.validation_size = validation_size
        self.seed = seed
        self.cache_dir = Path(cache_dir)
        splits = {"train": ("train",), "test": ("test",)}
        self.rows = RowSource(self.name, ("openai/gsm8k", "main"), splits, path)

    def _definition(self) -> dict[str, Any]:
        return {
            "source": self.rows.identity(self.cache_dir),
            "seed": self.seed,
            **self.sizes,
        }

    @property
    def hub_name(self) -> str | None:
        return self.rows.hub_name

    def _splits(self) -> Splits:
        yield "test", list(self._examples("test"))[: self.sizes["max_test"]]
        examples = list(self._examples("train"))
        held_out = self.validation_size
        if held_out >= len(examples):
            raise UsageError(
                f"dataset.validation_size={held_out} leaves nothing of the {len(examples)} "
                "training problems to train on: lower it"
            )
        order = np.random.default_rng(self.seed).permutation(len(examples))
        yield "validation", [examples[i] for i in order[:held_out]]
        yield "train", [examples[i] for i in order[held_out:][: self.sizes["max_train"]]]

    def _examples(self, split: str) -> Iterator[Example]:
        for where, row in self.rows.read(split):
            question = text_of(row, "question", where)
            steps, marker, result = text_of(row, "answer", where).rpartition(MARKER)
            if not marker or not result.strip():
                raise UsageError(f"{where}: the answer has no final '{MARKER} N'")
            steps = _ANNOTATION.sub("", steps).strip()
            result = _THOUSANDS.sub("", result.strip())
            yield Example(question, f"{steps}\n{MARKER} {result}", self.name)
