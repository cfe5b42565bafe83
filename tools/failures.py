"""Which errors of an evaluation are results, which are the disk's, and which are defects."""

import errno
import os
import sqlite3

from tools.measurement import Failure

FULL_DISK = "The disk is full: free some space, or choose another place (settings home and cache), and resume."

_NO_MEMORY = ("can't allocate memory", "can't start new thread", "std::bad_alloc")


def failure_of(error: Exception) -> Failure | None:
    """The typed result that stands for `error`, or None where it is a defect that should be seen."""
    import torch

    from tools.memory_use import peak_memory_mb
    from tools.pretraining.trainer import NotFiniteError

    if isinstance(error, NotFiniteError):
        return Failure(kind="not_finite", message=f"{error}; try a lower learning_rate")
    # On the CPU torch reports a failed allocation as a plain RuntimeError, and Python one of a thread's stack.
    plain = isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or plain:
        advice = "try a smaller micro_batch_size or block_length"
        return Failure(kind="out_of_memory", message=f"out of memory at {peak_memory_mb():,.0f} MB; {advice}")
    return None


def is_full_disk(error: BaseException) -> bool:
    """Whether `error` says that no more can be written, in whatever words its library has for that."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, sqlite3.OperationalError):
        return "disk is full" in str(error) or "disk I/O error" in str(error)
    # safetensors wraps the system's error in words.
    return type(error).__name__ == "SafetensorError" and any(
        os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    )
