"""Freed memory is kept for the next step: on a CPU, asking the system for the same pages in each step costs time.

A training step allocates and frees the same gigabytes again and again. glibc gives large blocks back to the system at
once, which hands them out again page by page, each zeroed and faulted in (`python -m benchmarks.freed_memory` says
what that costs). Kept memory is a little more at the peak, as freed blocks do not always fit what comes next.

Work in the main thread has it, as that of worker processes and of the shell's commands does; glibc keeps the large
blocks of other threads apart in any case. Other C libraries, and allocators in glibc's place, are left as they are, and
so is glibc where MALLOC_ variables or GLIBC_TUNABLES say how it is to allocate.
"""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_NEVER = -1
_MIB = 2**20
# What glibc's own, dynamic thresholds grow to in a process that allocates tensors (DEFAULT_MMAP_THRESHOLD_MAX).
_USUAL_MMAP_THRESHOLD = 32 * _MIB
_KEPT_MMAP_THRESHOLD = 2**30
_KEPT_TOP_PAD = 256 * _MIB


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """What is freed inside stays with the process until the end of the block, where it goes back to the system."""
    library = None if _is_tuned() else _glibc()
    if library is None:
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, _KEPT_MMAP_THRESHOLD)
    library.mallopt(_TRIM_THRESHOLD, _NEVER)
    library.mallopt(_TOP_PAD, _KEPT_TOP_PAD)
    try:
        yield
    finally:
        library.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)
        library.mallopt(_TRIM_THRESHOLD, 2 * _USUAL_MMAP_THRESHOLD)
        library.mallopt(_TOP_PAD, 0)
        library.malloc_trim(0)


def _is_tuned() -> bool:
    return any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)


@cache
def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    return ctypes.CDLL("libc.so.6")
