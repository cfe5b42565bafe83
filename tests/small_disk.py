"""A small disk of its own (tmpfs) for tests in which a disk fills up, where this user may mount one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PART = 64 * 1024


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator["SmallDisk"]:
    """A disk of `megabytes` mounted at `place`, which is made. Skips the test where none can be mounted."""
    place.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here, which takes root on Linux ({mounted.stderr.strip()})")
    try:
        yield SmallDisk(place)
    finally:
        # Lazily: whoever still has a file open there keeps it to the end.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


class SmallDisk:
    """A disk that can be filled and freed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._ballast = place / "ballast"

    def fill(self) -> None:
        """Take all the room that is left, to the last byte."""
        with self._ballast.open("ab", buffering=0) as file:
            size = _PART
            while size:
                try:
                    written = file.write(bytes(size))
                    size = size if written else size // 2
                except OSError:
                    size //= 2
        assert os.statvfs(self.place).f_bavail == 0

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink()
