"""What a process is at in a shared folder, written beside it, so that whoever comes next knows if it ended meanwhile.

Chroma writes its index in place, and only while it is asked or told something. A process that ends in the middle leaves
files that do not fit together, and these can end the next process that reads them with a signal that nothing can catch.
So each such moment is marked, with the part of the folder that it is about: a part that is marked when its process has
gone is not trusted. A process that ended at any other moment has left the folder as whole as if it had closed it.
"""

import os
from collections.abc import Collection
from pathlib import Path

import psutil

EVERYTHING = "everything"
"""The part of which all others are parts."""

_LENGTH = 200
# Clocks are corrected while a machine runs, and no machine starts in less.
_SAME_START_SECONDS = 10.0


class UseMark:
    """The file that says which parts of a folder are in use. What is there is overwritten: a full disk has room for it.

    Where the machine itself went down, its last writes may be lost: all parts then count as in use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._started = 0.0

    def read(self) -> frozenset[str]:
        """The parts in use; none where there is no mark."""
        try:
            started, *parts = self._path.read_text().split()
            same_start = abs(float(started) - psutil.boot_time()) < _SAME_START_SECONDS
        except FileNotFoundError:
            return frozenset()
        except ValueError:
            return frozenset({EVERYTHING})
        return frozenset(parts) if same_start else frozenset({EVERYTHING})

    def write(self, parts: Collection[str]) -> None:
        """Mark these parts, and no others. Raises OSError."""
        if self._file is None:
            self._started = psutil.boot_time()
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        text = " ".join([str(self._started), *sorted(parts)])
        # One write of one length: nobody reads half of it.
        os.pwrite(self._file, f"{text:<{_LENGTH}}".encode(), 0)

    def remove(self) -> None:
        """Take the mark away."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file. Closing twice is harmless."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
