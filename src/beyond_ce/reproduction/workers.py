"""Runs functions in parallel processes that stop cleanly; one that dies does not end the others.

Kept free of heavy imports, to start the import of all others early.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from beyond_ce.errors import RunError, UsageError, one_line, report_fault
from beyond_ce.processes.sweeps import handling

_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


@dataclass(frozen=True)
class Task:
    """`function(argument)`, with everything that it prints appended to the file `log`."""

    function: Callable[[Any], Any]
    argument: Any
    log: Path


def run_tasks(
    tasks: Iterable[Task],
    max_workers: int,
    on_done: Callable[[Task, str | None], None],
    gpus: Sequence[str] = (),
) -> None:
    """Runs every task and calls `on_done` with its error as one line, or None.

    Each process runs many tasks, so it imports their modules only once. A process that dies (killed
    for memory, say) breaks the pool: the tasks that were running start again in a new pool, and a
    task that was running both times a pool broke has failed.

    Args:
        gpus: to deal out: each process sees one of them. Empty to let all see all.

    Raises:
        KeyboardInterrupt: on Ctrl-C, SIGTERM or another signal to stop, after all running tasks
            got a SIGTERM and ended.
    """
    waiting = list(tasks)
    deaths: dict[int, int] = {}
    with handling(signal.default_int_handler):
        while waiting:
            running: dict[Future, Task] = {}
            try:
                with _pool(min(max_workers, len(waiting)), gpus) as pool:
                    while waiting or running:
                        # Submit no more tasks than there are workers, so that exactly the
                        # submitted ones were running if the pool breaks.
                        while waiting and len(running) < max_workers:
                            task = waiting.pop(0)
                            running[pool.submit(_run, task)] = task
                        for done in wait(running, return_when=FIRST_COMPLETED).done:
                            error = done.result()
                            on_done(running.pop(done), error)
            except BrokenProcessPool:
                retried = []
                for task in running.values():
                    deaths[id(task)] = deaths.get(id(task), 0) + 1
                    if deaths[id(task)] == 2:
                        on_done(task, "its process died twice")
                    else:
                        retried.append(task)
                waiting = retried + waiting


def run_command(command: Sequence[str]) -> None:
    """Runs a command in a process of its own and waits; a SIGTERM is passed on to it.

    Raises:
        RunError: it failed.
    """
    with subprocess.Popen(command) as child:
        before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            code = child.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
    if code:
        raise RunError(f"its command ended with exit code {code}")


def error_line(error: BaseException) -> str:
    """An error as one line, without a traceback."""
    return f"{type(error).__name__}: {one_line(error)}"


def print_error(error: Exception) -> None:
    """Print a user's error as one line, and any other with its traceback, to report it."""
    if isinstance(error, UsageError | RunError):
        print(f"error: {one_line(error)}", file=sys.stderr)
    else:
        report_fault(error)


def preload() -> None:
    """Begin to import what runs need, beside what this process goes on with.

    Workers are forked from a process that imports and does nothing else: one that has computed or
    used a GPU cannot be forked. Without this call each worker imports for itself.
    """
    if _METHOD == "forkserver":
        multiprocessing.set_forkserver_preload(["beyond_ce.reproduction.preloaded"])
        forkserver.ensure_running()


@contextlib.contextmanager
def _pool(size: int, gpus: Sequence[str]) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context(_METHOD)
    dealt = context.SimpleQueue()
    for index in range(size):
        dealt.put(gpus[index % len(gpus)] if gpus else None)
    with ProcessPoolExecutor(
        size, mp_context=context, initializer=_start_worker, initargs=(dealt,)
    ) as pool:
        try:
            yield pool
        except KeyboardInterrupt:
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _start_worker(dealt: SimpleQueue[str | None]) -> None:
    if (gpu := dealt.get()) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # CUDA starts later, at its first use
    # Ctrl-C reaches the whole foreground group. Only the parent acts on it: it sends SIGTERM to the
    # workers, on which a run saves and stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def stop_with_parent() -> None:
        # An orphan would keep writing into a folder that a second start has taken over.
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_with_parent, daemon=True).start()


def _run(task: Task) -> str | None:
    try:
        try:
            task.log.parent.mkdir(parents=True, exist_ok=True)
            sys.stdout.flush()
            with task.log.open("a", encoding="utf-8") as log:
                # File descriptors and not sys.stdout, to catch the output of C libraries as well.
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
        except OSError as error:
            return f"cannot write {task.log}: {error.strerror}"
        task.function(task.argument)
    except Exception as error:
        print_error(error)
        return error_line(error)
    finally:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)
    return None
