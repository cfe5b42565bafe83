"""The folder of vectors that the processes of a home share: who has it, and how its last owner left it.

Beside it lie two locks and a mark. The owner has `FOLDER.lock`. Whoever may change what is in the folder, copies it or
becomes its owner has `FOLDER.busy` for that long. `FOLDER.open` is there from the moment that somebody becomes the
owner until that one has closed the folder in order, so that it stays where a process was killed.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

Left = Literal["closed", "opening", "checked", "open"]
"""Closed in order, or what its owner was at: opening it, opening it after a check that it passed, using it."""

_MARKED: tuple[Left, ...] = ("opening", "checked", "open")
_BUSY_SECONDS = 60.0
"""How long one change of the folder may take while another process waits to copy it."""


class SharedFolder:
    """A folder that at most one process owns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.busy = FileLock(path.with_name(f"{path.name}.busy"), timeout=_BUSY_SECONDS)
        self._lock = FileLock(path.with_name(f"{path.name}.lock"), blocking=False)
        self._mark = path.with_name(f"{path.name}.open")

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
                vouched = self._left() == "open"
                try:
                    shutil.copytree(self.path, private)
                except (OSError, shutil.Error):
                    shutil.rmtree(private, ignore_errors=True)
                # An owner that was killed since may have left half a write.
                if taken := self._taken():
                    shutil.rmtree(private, ignore_errors=True)
                    return taken
        except Timeout:
            vouched = False
        return Claim(private, "closed" if vouched else "opening", None)

    def note(self, left: Left) -> None:
        """The owner says how it would leave the folder if it were killed now."""
        if left == "closed":
            self._mark.unlink(missing_ok=True)
        else:
            self._mark.write_text(left)

    def release(self) -> None:
        """Be its owner no more."""
        self._lock.release()

    def _taken(self) -> "Claim | None":
        try:
            self._lock.acquire()
        except Timeout:
            return None
        left = self._left()
        # What was checked and is opened again is not yet checked again.
        self.note("opening")
        return Claim(self.path, left, self)

    def _left(self) -> Left:
        try:
            text = self._mark.read_text()
        except FileNotFoundError:
            return "closed"
        return next((left for left in _MARKED if left == text), "opening")


@dataclass(frozen=True)
class Claim:
    """A folder that this process alone has: the shared one, or else a copy, which goes when it is released.

    `left` is how it was left before.
    """

    path: Path
    left: Left
    shared: SharedFolder | None

    @property
    def busy(self) -> FileLock | None:
        """To be held while the folder may be changed."""
        return None if self.shared is None else self.shared.busy

    def note(self, left: Left) -> None:
        """Say how it would be left if this process were killed now."""
        if self.shared is not None:
            self.shared.note(left)

    def release(self, in_order: bool) -> None:
        """Leave it to others. What is not left `in_order` is checked before it is used again."""
        if self.shared is None:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        if in_order:
            self.note("closed")
        self.shared.release()
