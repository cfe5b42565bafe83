"""When long work is to be written down: every so many seconds, never for much of its time, and where it is stopped."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tools.stopping import WorkStoppedError

WRITING_SHARE = 0.02
"""At most this share of the time goes into writing, however large the model is."""


class CheckpointPace:
    """`seconds` lie between two checkpoints, which `write` makes; None: there is none. The first is due after as many.

    `stop` says whether the work is to end: see `tools.stopping`.
    """

    def __init__(self, seconds: float | None, write: Callable[[], None], stop: Callable[[], bool]) -> None:
        self._writes, self._write, self._stop = seconds is not None, write, stop
        self._seconds = math.inf if seconds is None else seconds
        self._due = time.monotonic() + self._seconds

    def after_step(self, done: int) -> None:
        """Write if it is time for that. Raises WorkStoppedError where the work is to end, after it was written down."""
        with self.written_where_stopped():
            if self._stop():
                raise WorkStoppedError
        began = time.monotonic()
        if began >= self._due:
            self._write()
            ended = time.monotonic()
            self._due = ended + max(self._seconds, (ended - began) / WRITING_SHARE)

    @contextmanager
    def written_where_stopped(self) -> Iterator[None]:
        """Within the block nothing is trained: where the work is stopped, it is written down as it was before."""
        try:
            yield
        except WorkStoppedError:
            if self._writes:
                self._write()
            raise
