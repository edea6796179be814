"""Induction: does a model complete a name that it has read once before?

Source: MTP paper, section 4.1 and figures 7 and S14.

Shapes: B stories, T positions, P occurrences, D hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch

from beyond_ce.batches.batch import Batch, pad, token_mask
from beyond_ce.data.sampling import random_below
from beyond_ce.errors import UsageError
from beyond_ce.evaluation.attention import Pair, mean_attention, repeated_tokens
from beyond_ce.evaluation.evaluator import (
    Evaluation,
    Evaluator,
    Subject,
    check_context,
    check_predicts_tokens,
    spread,
)
from beyond_ce.evaluation.held_out import score_features
from beyond_ce.evaluation.names import (
    TrainingNames,
    TwoTokenName,
    read_names,
    rename,
    story_names,
    tokens_of,
    two_token_names,
)
from beyond_ce.models import Decoder, evaluating
from beyond_ce.settings import COUNT, FLAG, SEED, takes

if TYPE_CHECKING:
    import datasets

    from beyond_ce.data import PackedData
    from beyond_ce.tokenizers.base import Tokenizer

_MOST = 10  # the tenth and all later occurrences of a name count together
_RANDOM_ROWS, _RANDOM_TOKENS = 16, 50  # of the random sequences, which are then repeated
_COLUMNS = ("story", "name", "number", "position", "loss", "right")


@dataclass(frozen=True)
class Occurrence:
    """A place where the tokens of a name stand in a story.

    Attributes:
        number: 1 for the first one of this name in its story.
        position: of the first token; the second one is predicted there.
    """

    story: int
    name: str
    number: int
    position: int


@dataclass(frozen=True)
class Reading:
    """Stories as tokens, at most `context` of each and one to predict, with their names."""

    tokens: list[list[int]]
    occurrences: list[Occurrence]


class Induction(Evaluator):
    """Replaces the names in stories by random ones of two tokens, and scores the second token.

    The new names are those of `two_token_names`; within a story each is the same throughout. Given
    the true tokens before, the second token of a name can be known from the first one only where
    both were together earlier in the same story. A mention that is not these two tokens, as after
    a quotation mark in some tokenizers, does not count. Names are found by `story_names`; stories
    without any are left out. They are cut off after `context` tokens.

    - `induction_accuracy`, of head 1: share of occurrences after the first where the name's second
      token is the most probable one, and `induction_loss`: its mean negative log probability, in
      nats. `induction_loss@2`, `@3` and so on are those of the second occurrence, of the third,
      and, as `@10`, of the tenth and all later ones.
    - `first_mention_accuracy`: the same at first occurrences, where nobody can know it.
    - `original_accuracy`: the same as `induction_accuracy` with the original names, which training
      has shown; those of a single token are left out.
    - `stories`, `occurrences`, `original_occurrences`: how many there are, first ones left out.
    - `training_names`: names in the training stories; `known_tokens`: share of the new names'
      tokens that training names have in the same place, first or second.

    Of a `Decoder` also the attention head that attends most, from the second occurrence of a token,
    to the one after its first occurrence: `attention@random` in random tokens that are repeated,
    `attention@names` at the first tokens of the new names; `attention_layer` and `attention_head`
    say which one it is, counted from 1.

    Args:
        data: the data set that was trained on.
        batch_size: stories read together; changes speed and memory only.
        context: tokens of a story that are read.
        stories: at most so many, spread evenly.
        known_tokens: whether the new names consist of tokens that training names have as well, so
            that nothing but induction is asked for. In the paper some have never been trained on.
        seed: of the new names; independent of the run's.
    """

    columns = ("text",)

    @takes(
        "evaluator", batch_size=COUNT, context=COUNT, stories=COUNT, known_tokens=FLAG, seed=SEED
    )
    def __init__(
        self,
        data: PackedData,
        batch_size: int,
        context: int,
        stories: int,
        known_tokens: bool,
        seed: int = 0,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.context = context
        self.stories = stories
        self.known_tokens = known_tokens
        self.seed = seed
        self._names: dict[str, tuple[TrainingNames, list[TwoTokenName]]] = {}

    def __call__(self, subject: Subject, examples: datasets.Dataset) -> Evaluation:
        """Scores stories (columns text, task).

        Predictions have a line per occurrence of a new name: the story's number and task, the name,
        the number of the occurrence, its position, the loss, and whether the second token is the
        most probable one.

        Raises:
            UsageError: no story has a name twice, the model cannot read them, or there are too few
                names of two tokens.
        """
        model, tokenizer = subject.model, subject.tokenizer
        check_predicts_tokens(model)
        check_context(model, self.context, "evaluator.context")
        training, choice = self._training(tokenizer)
        chosen = [i for i, text in enumerate(examples["text"]) if story_names(text)]
        chosen = [chosen[i] for i in spread(len(chosen), self.stories)]
        texts = [examples[i]["text"] for i in chosen]
        renamed, new = self._renamed(subject, texts, choice)
        later = [each for each in renamed.occurrences if each.number > 1]
        if not later:
            raise UsageError(
                f"no story has a name twice within evaluator.context={self.context} tokens: raise "
                "it, or choose dataset=generated_stories"
            )
        frame = self._score(subject, renamed)
        metrics = _metrics(frame)
        tokens = [pair for names in new for pair in (name.tokens for name in names)]
        known = [(a in training.first) + (b in training.second) for a, b in tokens]
        metrics |= {
            "stories": float(len(texts)),
            "training_names": float(len(training.names)),
            "known_tokens": sum(known) / (2 * len(known)),
        }
        original = self._score(subject, self._original(subject, texts))
        original = original[original["number"] > 1]
        metrics["original_occurrences"] = float(len(original))
        if len(original):
            metrics["original_accuracy"] = float(original["right"].mean())
        if isinstance(model, Decoder):
            metrics |= self._attention(subject, model, renamed)
        tasks = [examples[chosen[i]]["task"] for i in frame["story"]]
        return Evaluation(metrics, frame.assign(task=tasks))

    def _training(self, tokenizer: Tokenizer) -> tuple[TrainingNames, list[TwoTokenName]]:
        """The names of training and the new ones, kept for probes during training."""
        key = tokenizer.fingerprint()
        if key not in self._names:
            texts = self.data.load()["train"].select_columns(["text"])
            training = read_names(_each_text(texts), tokenizer)
            names = two_token_names(tokenizer, training, self.known_tokens, self.seed)
            self._names[key] = training, names
        return self._names[key]

    def _renamed(
        self, subject: Subject, texts: Sequence[str], choice: Sequence[TwoTokenName]
    ) -> tuple[Reading, list[list[TwoTokenName]]]:
        pairs = [
            rename(text, choice, random_below(self.seed, story)) for story, text in enumerate(texts)
        ]
        names = [{name.text: list(name.tokens) for name in new} for _, new in pairs]
        reading = self._reading(subject, [text for text, _ in pairs], names)
        return reading, [new for _, new in pairs]

    def _original(self, subject: Subject, texts: Sequence[str]) -> Reading:
        names = []
        for text in texts:
            found = story_names(text)
            tokens = tokens_of(subject.tokenizer, found)
            names.append({n: ids for n, ids in zip(found, tokens, strict=True) if len(ids) > 1})
        return self._reading(subject, texts, names)

    def _reading(
        self, subject: Subject, texts: Sequence[str], names: Sequence[dict[str, list[int]]]
    ) -> Reading:
        start = list(subject.start)
        tokens = [
            [*start, *ids][: self.context + 1] for ids in subject.tokenizer.encode(list(texts))
        ]
        found = [
            Occurrence(story, name, number, position)
            for story, ids in enumerate(tokens)
            for name, of_name in names[story].items()
            for number, position in enumerate(places(ids, of_name), start=1)
        ]
        return Reading(tokens, found)

    @torch.inference_mode()
    def _score(self, subject: Subject, reading: Reading) -> pd.DataFrame:
        """A line per occurrence, with the loss and the verdict on its second token."""
        model = subject.model.to(subject.device)
        lines = []
        with evaluating(model):
            for stories in self._batches(reading):
                inputs = [reading.tokens[story][: self.context] for story in stories]
                row = {story: i for i, story in enumerate(stories)}
                found = [each for each in reading.occurrences if each.story in row]
                if not found:
                    continue
                ids = pad(inputs, model.pad_id)
                batch = Batch(ids, token_mask(inputs), labels=ids).to(subject.device)
                features = model.head.features(model.trunk(batch), 0)
                rows = torch.tensor([row[each.story] for each in found], device=subject.device)
                places = torch.tensor([each.position for each in found], device=subject.device)
                labels = [reading.tokens[each.story][each.position + 1] for each in found]
                scored = score_features(
                    model, features[rows, places], torch.tensor(labels, device=subject.device), 0
                )
                bits, right = (each.tolist() for each in scored)
                for each, cost, verdict in zip(found, bits, right, strict=True):
                    place = (each.story, each.name, each.number, each.position)
                    lines.append((*place, cost * math.log(2), verdict))
        return pd.DataFrame(sorted(lines), columns=list(_COLUMNS))

    def _batches(self, reading: Reading) -> Iterator[list[int]]:
        """Stories of similar lengths together; the longest first, to run out of memory early."""
        order = sorted(range(len(reading.tokens)), key=lambda i: -len(reading.tokens[i]))
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    def _attention(self, subject: Subject, model: Decoder, renamed: Reading) -> dict[str, float]:
        special = {model.pad_id, model.eos_id, subject.tokenizer.unk_id}
        length = min(_RANDOM_TOKENS, self.context // 2)
        random = repeated_tokens(model.vocab_size, special, _RANDOM_ROWS, length, self.seed)
        firsts: dict[tuple[int, str], int] = {}
        pairs: list[Pair] = []
        for each in renamed.occurrences:
            if each.number == 1:
                firsts[each.story, each.name] = each.position
            elif each.number == 2:
                first = firsts[each.story, each.name]
                pairs.append((each.story, each.position, first + 1))
        texts = [ids[: self.context] for ids in renamed.tokens]
        metrics: dict[str, float] = {}
        for name, (rows, places) in {"random": random, "names": (texts, pairs)}.items():
            scores = mean_attention(model, rows, places, self.batch_size)
            layer, head = divmod(int(scores.argmax()), scores.shape[1])
            metrics[f"attention@{name}"] = float(scores.max())
            metrics[f"attention_layer@{name}"] = layer + 1.0
            metrics[f"attention_head@{name}"] = head + 1.0
        return metrics


def places(ids: Sequence[int], part: Sequence[int]) -> list[int]:
    """Where in the tokens `ids` those of `part` begin."""
    ids, part = list(ids), list(part)
    starts = range(len(ids) - len(part) + 1)
    return [i for i in starts if ids[i] == part[0] and ids[i : i + len(part)] == part]


def _each_text(rows: datasets.Dataset) -> Iterable[str]:
    for batch in rows.iter(batch_size=1000):
        yield from batch["text"]


def _metrics(frame: pd.DataFrame) -> dict[str, float]:
    """The metrics of the new names."""
    first, later = frame[frame["number"] == 1], frame[frame["number"] > 1]
    metrics = {
        "induction_accuracy": float(later["right"].mean()),
        "induction_loss": float(later["loss"].mean()),
        "first_mention_accuracy": float(first["right"].mean()),
        "occurrences": float(len(later)),
    }
    for number, lines in later.groupby(later["number"].clip(upper=_MOST)):
        metrics[f"induction_loss@{number}"] = float(lines["loss"].mean())
    return metrics
