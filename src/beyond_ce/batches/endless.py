"""Prompt/answer data that never end as token batches: made and tokenized block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import datasets
import numpy as np

from beyond_ce.batches.order import Endless
from beyond_ce.batches.prompt_answer import PromptAnswerBatches, lengths, token_columns
from beyond_ce.data import EndlessData

if TYPE_CHECKING:
    from beyond_ce.models import LanguageModel
    from beyond_ce.tokenizers import Tokenizer


class EndlessTokens:
    """The training split of `EndlessData` with the columns of `tokenize`; nothing is stored.

    Rows are numbered through all blocks. The length is that of a block, which takes the place of an
    epoch.

    Args:
        stream: the run's seed.
    """

    def __init__(self, data: EndlessData, tokenizer: Tokenizer, stream: int) -> None:
        self.data = data
        self.tokenizer = tokenizer
        self.stream = stream
        self._number, self._block = -1, datasets.Dataset.from_dict({})

    def __len__(self) -> int:
        return self.data.block_size

    def __getitem__(self, rows: np.ndarray) -> dict[str, list]:
        """The columns of some rows of one block, at least one."""
        return self.block(int(rows[0]) // len(self))[rows % len(self)]

    def block(self, number: int) -> datasets.Dataset:
        """All rows of a block; the latest one stays in memory."""
        if number != self._number:
            made = self.data.block(self.stream, number)
            texts = {"prompt": [row.prompt for row in made], "answer": [row.answer for row in made]}
            columns = token_columns(texts, self.tokenizer)
            self._number, self._block = number, datasets.Dataset.from_dict(columns)
        return self._block


class EndlessBatches(PromptAnswerBatches):
    """`PromptAnswerBatches` with fresh training rows in every batch, grouped by length in blocks.

    Args:
        train: makes the training rows. That the longest fit the model is checked on the first
            block.
    """

    def __init__(
        self,
        model: LanguageModel,
        train: EndlessTokens,
        validation: datasets.Dataset,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(model, train.block(0), validation, batch_size, seed)
        self.splits["train"] = train
        self.order = Endless(lambda number: lengths(train.block(number)), batch_size, seed)
