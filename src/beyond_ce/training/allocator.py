"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes

# Parameters of mallopt, from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Have the allocator keep up to 1 GiB of freed memory for the tensors that come next.

    By default glibc returns the memory of a step's activations when they are freed, and the next
    step waits while the system maps and clears the same pages: a tenth of the time of a small model
    on a CPU. Other C libraries have no `mallopt`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the largest allowed: larger tensors are returned
