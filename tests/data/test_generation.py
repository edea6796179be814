import itertools

import pytest

from beyond_ce.data.deepmind_generator import pairs
from beyond_ce.data.generation import SHARD_SIZE, Generator, Stream, shard_seed
from beyond_ce.errors import RunError

MUL = Stream("train", "train-easy", "arithmetic__mul", wanted=30)
ROUND = Stream("validation", "train-hard", "numbers__round_number", wanted=120)


def read(plan, num_workers, counts, seed=0):
    with Generator(plan, seed, num_workers) as generator:
        return [
            list(itertools.islice(generator.pairs(stream), count))
            for stream, count in zip(plan, counts, strict=True)
        ]


def test_streams_are_the_same_for_any_number_of_workers():
    counts = (70, 130)  # beyond what was planned
    assert read([MUL, ROUND], 1, counts) == read([MUL, ROUND], 3, counts)


def test_a_stream_is_its_shards_in_order():
    [stream] = read([MUL], 1, [SHARD_SIZE + 1], seed=5)
    shards = [
        pairs(MUL.regime, MUL.module, SHARD_SIZE, shard_seed(5, MUL, shard)) for shard in range(2)
    ]
    assert stream == [*shards[0], shards[1][0]]


def test_every_shard_has_a_seed_of_its_own():
    streams = [MUL, ROUND, Stream("train", "train-hard", "numbers__round_number", 120)]
    seeds = [shard_seed(seed, s, n) for seed in (0, 1) for s in streams for n in range(50)]
    assert len(set(seeds)) == len(seeds)


def test_closing_ends_the_processes():
    with Generator([MUL], 0, 2) as generator:
        next(generator.pairs(MUL))
    assert all(worker.process.returncode is not None for worker in generator._workers)


def test_a_dead_worker_is_one_line():
    with Generator([MUL], 0, 1) as generator:
        generator._workers[0].process.kill()
        with pytest.raises(RunError, match=r"arithmetic__mul died.*num_workers") as error:
            next(generator.pairs(MUL))
    assert "\n" not in str(error.value)
