from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from beyond_ce.configuration import build, compose
from beyond_ce.training import trainer
from beyond_ce.training.allocator import keep_freed_memory

KEPT = """
import ctypes, resource
from beyond_ce.training.allocator import keep_freed_memory
{call}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
def kept(size, blocks=4):
    before = resident()
    pointers = [libc.malloc(size) for _ in range(blocks)]
    for pointer in pointers:
        libc.memset(pointer, 1, size)
    for pointer in pointers:
        libc.free(pointer)
    return resident() - before
kept(24 << 20, 1)  # glibc adapts its thresholds to the largest block that was freed
print(kept(24 << 20), kept(48 << 20))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize(("call", "keeps"), [("", False), ("keep_freed_memory()", True)])
def test_keeps_what_is_freed_except_for_the_largest(call: str, keeps: bool) -> None:
    command = [sys.executable, "-c", KEPT.format(call=call)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    small, large = map(float, done.stdout.split())  # MiB
    assert (small > 60) == keeps
    assert large < 10


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    keep_freed_memory()


def test_every_trainer_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(trainer, "keep_freed_memory", lambda: calls.append(1))
    build(compose(["trainer.accelerator=cpu"]).trainer, "trainer")
    assert calls == [1]
