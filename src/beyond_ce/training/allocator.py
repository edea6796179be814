"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes

# Parameters of mallopt, from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Have the allocator keep up to 1 GiB of freed memory for the tensors that come next.

    By default glibc returns the memory of a step's activations when they are freed, and the next
    step waits while the system maps and clears the same pages: 5% or more of the time of a small
    model on a CPU. The peak of a process stays the same, because only memory that it has already
    used is kept; memory on devices is not concerned. Without glibc's `mallopt` this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        # Setting one threshold stops glibc from raising the other by itself, up to this value.
        # Larger tensors are returned when they are freed.
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
