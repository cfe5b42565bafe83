"""Work that is asked to end: training ends after the step at hand and writes down where it is, all else at once."""

import threading
from types import FrameType

from tools.requests import Progress


class WorkStoppedError(BaseException):
    """Nobody waits for the work any more; whoever takes it up again goes on from what was written.

    No Exception, like KeyboardInterrupt: who can do without what failed must not go on without this.
    """


class Stop:
    """Asked for from outside, heeded by the work: as a function, after each training step, and in what it reports."""

    def __init__(self) -> None:
        self._asked, self._in_steps = threading.Event(), False

    def __call__(self) -> bool:
        """Whether to write a checkpoint now and raise WorkStoppedError."""
        return self._asked.is_set()

    def ask(self) -> None:
        """From another thread: the work ends at the next step's end, or at the next word about it."""
        self._asked.set()

    def heed(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal in the thread that works. Raises WorkStoppedError outside of training."""
        repeated = self._asked.is_set()
        self._asked.set()
        if not self._in_steps and not repeated:
            raise WorkStoppedError

    def hear(self, progress: Progress) -> None:
        """How far the work is. Raises WorkStoppedError where it was asked for and no step's end is to follow."""
        self._in_steps = progress.is_step
        if self._asked.is_set() and not self._in_steps:
            raise WorkStoppedError
