"""Many programs at once: each is judged once, and a hung one holds up no other."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from tqdm import tqdm

from beyond_ce.data.programs.problem import MEMORY_MB, TIME_LIMIT_S
from beyond_ce.evaluation.code_execution.judge import Tests, run_tests
from beyond_ce.evaluation.code_execution.verdict import Verdict
from beyond_ce.settings import NO_LIMIT, takes

_AHEAD = 8  # programs per worker that wait their turn


@takes("", at_call=False, workers=NO_LIMIT)
def run_all(
    jobs: Iterable[tuple[str, Tests]],
    workers: int | None = None,
    *,
    timeout_s: float = TIME_LIMIT_S,
    memory_mb: int = MEMORY_MB,
) -> Iterator[tuple[int, Verdict]]:
    """Judge programs by their tests, as `run_tests` does, several at a time.

    A program that comes again with the same tests is not run again.

    Args:
        jobs: programs with their tests; read only a little ahead of the verdicts.
        workers: sandboxes that work at once; None for one per processor. A program that hangs
            holds up one of them, until its limit.

    Yields:
        The place of a job, from 0, and its verdict, as they come.

    Raises:
        UsageError, RunError: see `run_tests`.
    """
    count = workers or len(os.sched_getaffinity(0))
    total = len(jobs) if isinstance(jobs, Sized) else None
    bar = tqdm(total=total, desc="running programs", unit="program", smoothing=0, disable=None)
    verdicts: dict[tuple[str, Tests], Verdict] = {}
    places: dict[tuple[str, Tests], list[int]] = {}  # of those that wait for a verdict
    running: dict[Future[Verdict], tuple[str, Tests]] = {}
    queue = enumerate(jobs)
    pool = ThreadPoolExecutor(count, thread_name_prefix="sandbox")
    with bar:
        try:
            while True:
                read = list(itertools.islice(queue, count * _AHEAD - len(running)))
                if not read and not running:
                    return
                for place, job in read:
                    if job in verdicts:
                        bar.update()
                        yield place, verdicts[job]
                    elif job in places:
                        places[job].append(place)
                    else:
                        places[job] = [place]
                        running[pool.submit(run_tests, *job, timeout_s, memory_mb)] = job
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(done)
                    verdicts[job] = done.result()
                    for place in places.pop(job):
                        bar.update()
                        yield place, verdicts[job]
        finally:
            pool.shutdown(cancel_futures=True)
