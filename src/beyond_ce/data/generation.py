"""Endless streams of generated questions, drawn by any number of worker processes.

A stream is cut into shards of `SHARD_SIZE` pairs. Each shard has its own seed, so its content does
not depend on which process draws it, or when.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from beyond_ce.errors import RunError

SHARD_SIZE = 50

Pair = tuple[str, str]  # question, answer


@dataclass(frozen=True)
class Stream:
    """`wanted` questions of one module of DeepMind's generator, for one split of a data set.

    `regime` is the generator's: "train-easy", "train-medium", "train-hard", "interpolate" or
    "extrapolate". The same module feeds several splits (train and validation). `operations`, the
    minimum and maximum number of operations, overrides the module's own.
    """

    split: str
    regime: str
    module: str
    wanted: int
    operations: tuple[int, int] | None = None


def shard_seed(seed: int, stream: Stream, shard: int) -> int:
    """The seed of one shard of a stream, in [0, 2**32)."""
    key = f"{seed}/{stream.split}/{stream.regime}/{stream.module}/{shard}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")


class _Worker:
    """A process that runs the generator.

    We do not use `multiprocessing`: forking is unsafe once torch has started its threads, and
    "spawn" would import the user's script, torch included, in every worker.
    """

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "beyond_ce.data.deepmind_generator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def pairs(self, stream: Stream, seed: int) -> list[Pair]:
        assert self.process.stdin and self.process.stdout
        request = [stream.regime, stream.module, SHARD_SIZE, seed, stream.operations]
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            return [(q, a) for q, a in json.loads(self.process.stdout.readline())]
        except (OSError, ValueError) as error:
            raise RunError(
                f"a process generating {stream.module} died (out of memory?): run again, "
                "perhaps with fewer dataset.num_workers"
            ) from error

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Generator:
    """Draws streams with `num_workers` processes; as a context manager it ends them on exit.

    `plan` lists the streams in the order in which they will be read: while the reader consumes a
    shard, the workers already draw the next ones.
    """

    def __init__(self, plan: Sequence[Stream], seed: int, num_workers: int) -> None:
        self._seed = seed
        self._workers = [_Worker() for _ in range(num_workers)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(num_workers)
        self._planned = (
            (stream, shard) for stream in plan for shard in range(-(-stream.wanted // SHARD_SIZE))
        )
        self._prefetched: dict[tuple[Stream, int], Future[list[Pair]]] = {}

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.close()
        self._threads.shutdown()

    def pairs(self, stream: Stream) -> Iterator[Pair]:
        """The stream's (question, answer) pairs: endless, with repetitions."""
        for shard in itertools.count():
            yield from self._shard(stream, shard)

    def _shard(self, stream: Stream, shard: int) -> list[Pair]:
        for planned in itertools.islice(
            self._planned, max(0, 4 * len(self._workers) - len(self._prefetched))
        ):
            self._prefetched[planned] = self._threads.submit(self._draw, *planned)
        ready = self._prefetched.pop((stream, shard), None)
        return (ready or self._threads.submit(self._draw, stream, shard)).result()

    def _draw(self, stream: Stream, shard: int) -> list[Pair]:
        worker = self._idle.get()
        try:
            return worker.pairs(stream, shard_seed(self._seed, stream, shard))
        finally:
            self._idle.put(worker)
