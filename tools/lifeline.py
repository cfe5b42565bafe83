"""A child process that dies with its parent, also when the parent is killed.

The parent starts the child with `stdin=subprocess.PIPE`, keeps that pipe open and never writes to it. The system closes
it when the parent ends, however it ends; the child sees the end of its standard input and leaves. This needs no
support from the kernel beyond pipes and works alike on Linux and macOS.

A parent that forks without starting a new program (multiprocessing's "fork") hands the open pipe on: the child then
lives until those forks have ended too.
"""

import os
import sys
import threading
from typing import Protocol

EXIT_CODE = 3
"""Exit code of a process whose parent went away."""


class HasFileno(Protocol):
    """An open stream of the operating system."""

    def fileno(self) -> int: ...


def die_with_parent(stream: HasFileno | None = None) -> None:
    """Ends this process at once, without any clean-up, as soon as `stream` ends.

    Args:
        stream: the reading end of a pipe that the parent holds; `sys.stdin.buffer` when left out.
    """
    descriptor = (sys.stdin.buffer if stream is None else stream).fileno()
    threading.Thread(target=_leave_at_end, args=(descriptor,), name="lifeline", daemon=True).start()


def _leave_at_end(descriptor: int) -> None:
    # os.read and not stream.read: a daemon thread that holds a buffered reader's lock crashes the interpreter's exit.
    try:
        while os.read(descriptor, 4096):
            pass
    finally:
        os._exit(EXIT_CODE)
