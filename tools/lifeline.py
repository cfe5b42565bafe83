"""A child process that dies with its parent, also when the parent is killed.

The parent starts the child with `stdin=subprocess.PIPE`, keeps that pipe open and never writes to it. The system closes
it when the parent ends, however it ends; the child sees the end of its standard input and leaves. This needs no
support from the kernel beyond pipes and works alike on Linux and macOS.

Where somebody else starts the child, so that its standard input cannot be chosen, the pipe has a name: the parent keeps
`lifeline(path)` open, the child calls `die_with_holder(path)`.

A parent that forks without starting a new program (multiprocessing's "fork") hands the open pipe on: the child then
lives until those forks have ended too.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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
    lifeline = sys.stdin.buffer if stream is None else stream
    threading.Thread(target=_leave_at_end, args=(lifeline,), name="lifeline", daemon=True).start()


@contextmanager
def lifeline(path: Path) -> Iterator[None]:
    """Hold a named pipe, which is made at `path`: who has called `die_with_holder` ends as soon as it is let go."""
    os.mkfifo(path)
    # Opening one end waits for the other.
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(path, os.O_WRONLY)
    os.close(reading)
    try:
        yield
    finally:
        os.close(writing)


def die_with_holder(path: Path) -> None:
    """Ends this process at once, without any clean-up, as soon as nobody holds the lifeline at `path`."""
    # Where its holder is gone already there is nobody to wait for.
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    die_with_parent(os.fdopen(reading, "rb", buffering=0))


def _leave_at_end(stream: HasFileno) -> None:
    # os.read and not stream.read: a daemon thread that holds a buffered reader's lock crashes the interpreter's exit.
    try:
        while os.read(stream.fileno(), 4096):
            pass
    finally:
        os._exit(EXIT_CODE)
