"""The folder of vectors that the processes of a home share: who has it, and how its last owner left it.

Beside it lie two locks and a mark. The owner has `FOLDER.lock`. Whoever may change what is in the folder, copies it or
becomes its owner has `FOLDER.busy` for that long. `FOLDER.open` says what its owner is at (`memory.use_mark`), and goes
when that one has closed the folder in order.
"""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from memory.use_mark import EVERYTHING, UseMark

_BUSY_SECONDS = 60.0
"""How long one change of the folder may take while another process waits to copy it."""


class SharedFolder:
    """A folder that at most one process owns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.busy = FileLock(path.with_name(f"{path.name}.busy"), timeout=_BUSY_SECONDS)
        self.mark = UseMark(path.with_name(f"{path.name}.open"))
        self._lock = FileLock(path.with_name(f"{path.name}.lock"), blocking=False)

    def take(self) -> "Claim | None":
        """Become its owner; None where there is one. Raises OSError where that cannot be told."""
        try:
            with self.busy:
                return self._taken()
        except Timeout:
            return None

    def take_or_copy(self, private: Path) -> "Claim":
        """Become its owner, or have in `private` a copy of what the owner has written so far.

        Where that cannot be had nothing is there, so that all is filled. Raises OSError where the folder is unusable.
        """
        shutil.rmtree(private, ignore_errors=True)
        try:
            # Nobody else becomes the owner meanwhile, and the owner changes nothing.
            with self.busy:
                if taken := self._taken():
                    return taken
                doubtful = self.mark.read()
                try:
                    shutil.copytree(self.path, private)
                except (OSError, shutil.Error):
                    shutil.rmtree(private, ignore_errors=True)
                # An owner that was killed since may have left half a write.
                if taken := self._taken():
                    shutil.rmtree(private, ignore_errors=True)
                    return taken
        except Timeout:
            doubtful = frozenset({EVERYTHING})
        return Claim(private, doubtful, None)

    def release(self) -> None:
        """Be its owner no more."""
        self.mark.close()
        self._lock.release()

    def _taken(self) -> "Claim | None":
        try:
            self._lock.acquire()
        except Timeout:
            return None
        return Claim(self.path, self.mark.read(), self)


@dataclass(frozen=True)
class Claim:
    """A folder that this process alone has: the shared one, or else a copy, which goes when it is released.

    `doubtful` are the parts that were in use when somebody left it: they may be half written.
    """

    path: Path
    doubtful: frozenset[str]
    shared: SharedFolder | None

    @property
    def busy(self) -> FileLock | None:
        """To be held while the folder may be changed."""
        return None if self.shared is None else self.shared.busy

    def note(self, in_use: Collection[str]) -> None:
        """Say which parts would be doubtful if this process ended now. Raises OSError."""
        if self.shared is not None:
            self.shared.mark.write(in_use)

    def release(self, in_order: bool) -> None:
        """Leave it to others, with no mark where it is `in_order`, else as it was noted last."""
        if self.shared is None:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        if in_order:
            self.shared.mark.remove()
        self.shared.release()
