"""Many samples of every problem at several temperatures, kept on disk batch by batch.

A sample depends on the seed, the problem, the temperature and its number alone, and on the model.
So a job that was killed goes on after its last batch and ends with the same samples, and one with
more samples or temperatures adds them to those that are there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Protocol

import pandas as pd
import torch
from tqdm import tqdm

from beyond_ce.evaluation.evaluator import Subject
from beyond_ce.generation import StopTexts, before, continuation, generate, longest_continuation
from beyond_ce.models import LanguageModel
from beyond_ce.storage.shards import Shards

_STREAM_BYTES = 12  # of the number of a sample's stream: no two samples should share one
_SEEN = 12  # hex digits of a folder's name


class Prompt(Protocol):
    """What is sampled: a problem's name, unique among all, and its text."""

    @property
    def id(self) -> str: ...

    @property
    def prompt(self) -> str: ...

    @property
    def stop(self) -> tuple[str, ...]:
        """A completion ends before the first of these texts."""
        ...


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn.

    Attributes:
        temperatures: 0 is greedy decoding, with all heads of a model that drafts.
        samples: of each problem at each temperature; at 0 there is one, as all would be the same.
        max_new_tokens: longest completion. Where a prompt leaves less room in the model's context,
            it is as long as fits, and empty if nothing does.
        top_p: draw from the smallest set of tokens that holds this share of the probability.
        batch_size: samples drawn together, and kept together.
    """

    temperatures: Sequence[float]
    samples: int
    max_new_tokens: int
    top_p: float = 1.0
    seed: int = 0
    batch_size: int = 256

    def count(self, temperature: float) -> int:
        """How many samples of each problem there are at a temperature."""
        return self.samples if temperature else 1


def draw_samples(
    subject: Subject, problems: Sequence[Prompt], sampling: Sampling, folder: Path
) -> pd.DataFrame:
    """Samples all problems, except for what is in `folder` already.

    Samples of another model, or drawn in another way, lie in another folder below `folder`.

    Returns:
        A line per sample: problem (its id), temperature, sample (its number from 0), completion
        (text up to the first of the problem's stop texts) and finished (whether the model ended it,
        or a stop text did, and not its length). By temperature, problem and number.

    Raises:
        UsageError: the model cannot continue the prompts, or the folder cannot be written.
        RunError: a file with samples is damaged, or the model's logits are not finite.
    """
    return _Job(subject, problems, sampling, folder).run()


class _Job:
    """A model, problems, and what is made of both: prompts in tokens, a folder for the samples."""

    def __init__(
        self, subject: Subject, problems: Sequence[Prompt], sampling: Sampling, folder: Path
    ) -> None:
        self.problems, self.sampling = problems, sampling
        self.tokenizer = subject.tokenizer
        self.start, self.end_ids = list(subject.start), subject.ends
        self.prompts = subject.tokenizer.encode([problem.prompt for problem in problems])
        self.model = subject.model
        self.folder = folder / self._key()[:_SEEN]
        self.model.to(subject.device)

    def run(self) -> pd.DataFrame:
        frames = [self._at(temperature) for temperature in self.sampling.temperatures]
        return pd.concat(frames, ignore_index=True)

    def _at(self, temperature: float) -> pd.DataFrame:
        """All samples at a temperature."""
        shards = _shards(self.folder / f"temperature-{float(temperature)}")
        known = shards.read().select(["problem", "sample"]).to_pydict()
        kept = set(zip(known["problem"], known["sample"], strict=True))
        # Prompts of similar length share a batch; the longest first, as they need most memory.
        order = sorted(range(len(self.problems)), key=lambda i: len(self.prompts[i]), reverse=True)
        every = [(i, n) for i in order for n in range(self.sampling.count(temperature))]
        wanted = [(i, n) for i, n in every if (self.problems[i].id, n) not in kept]
        name = f"sampling at temperature {temperature:g}"
        bar = tqdm(total=len(every), desc=name, unit="sample", disable=None, smoothing=0)
        with bar:
            bar.update(len(every) - len(wanted))
            for limit, rows in groupby(wanted, key=lambda row: self._room(row[0])):
                while batch := list(islice(rows, self.sampling.batch_size)):
                    shards.append(list(self._draw(batch, temperature, limit)))
                    bar.update(len(batch))
        places = {problem.id: i for i, problem in enumerate(self.problems)}
        frame = shards.read().to_pandas().drop_duplicates(["problem", "sample"])
        frame = frame[frame["sample"] < self.sampling.count(temperature)]
        placed = frame.assign(place=frame["problem"].map(places))
        return placed.sort_values(["place", "sample"]).drop(columns="place")

    def _room(self, i: int) -> int:
        """The longest completion of a problem, in tokens."""
        room = longest_continuation(self.model, [*self.start, *self.prompts[i]])
        return (
            self.sampling.max_new_tokens
            if room is None
            else min(self.sampling.max_new_tokens, max(0, room))
        )

    def _draw(
        self, rows: list[tuple[int, int]], temperature: float, limit: int
    ) -> Iterator[dict[str, object]]:
        """One batch of samples, each given by its problem's index and its own number."""
        problems = [self.problems[i] for i, _ in rows]
        prompts = [self.prompts[i] for i, _ in rows]
        tokens: list[list[int]] = [[] for _ in rows]
        if limit:
            stops = [problem.stop for problem in problems]
            greedy_heads = self.model.head.n if self.model.drafts else 1
            tokens = generate(
                self.model,
                [[*self.start, *prompt] for prompt in prompts],
                limit,
                eos_id=self.end_ids,
                heads=1 if temperature else greedy_heads,
                batch_size=len(rows),
                temperature=temperature,
                top_p=self.sampling.top_p,
                seed=self.sampling.seed,
                stop=StopTexts(self.tokenizer, prompts, stops),
                streams=[_stream(self.problems[i].id, temperature, n) for i, n in rows],
            ).tokens
        for (_, number), problem, prompt, new in zip(rows, problems, prompts, tokens, strict=True):
            ended = bool(new) and new[-1] in self.end_ids
            text = continuation(self.tokenizer, prompt, new[:-1] if ended else new)
            completion = before(text, problem.stop)
            yield {
                "problem": problem.id,
                "temperature": temperature,
                "sample": number,
                "completion": completion,
                "finished": ended or len(completion) < len(text),
            }

    def _key(self) -> str:
        """Hex digest of all that samples depend on, besides their temperature and number."""
        settings = {
            "problems": [[p.id, p.prompt, p.stop] for p in self.problems],
            "tokenizer": self.tokenizer.fingerprint(),
            "start": self.start,
            "end_ids": self.end_ids,
            "max_new_tokens": self.sampling.max_new_tokens,
            "top_p": self.sampling.top_p,
            "seed": self.sampling.seed,
        }
        content = json.dumps(settings).encode() + weights_digest(self.model)
        return hashlib.sha256(content).hexdigest()


def weights_digest(model: LanguageModel) -> bytes:
    """Digest of a model's weights; about a second per GB."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        values = tensor.detach().cpu().reshape(-1).contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(memoryview(values.view(torch.uint8).numpy()))
    return digest.digest()


def _shards(folder: Path) -> Shards:
    import pyarrow as pa

    columns = {
        "problem": pa.string(),
        "temperature": pa.float64(),
        "sample": pa.int32(),
        "completion": pa.string(),
        "finished": pa.bool_(),
    }
    return Shards(folder, columns)


def _stream(problem: str, temperature: float, number: int) -> int:
    """The number of the stream of random numbers that draws a sample (see `generate`)."""
    content = json.dumps([problem, float(temperature), number]).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:_STREAM_BYTES], "little")
