from __future__ import annotations

import platform
import subprocess
import sys

import pytest

TRAIN = """
import resource, torch
from beyond_ce.training.allocator import keep_freed_memory
{call}
def step():
    tensors = [torch.ones(2**18) for _ in range(64)]  # 64 MiB
    del tensors
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again() -> None:
    faults = {}
    for call in ("", "keep_freed_memory()"):
        command = [sys.executable, "-c", TRAIN.format(call=call)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[call] = float(done.stdout)
    assert faults["keep_freed_memory()"] < 100 < faults[""]
