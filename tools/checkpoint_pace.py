"""When long work is to be written down: every so many seconds, and never for much of its time."""

import math
import time
from collections.abc import Callable

WRITING_SHARE = 0.02
"""At most this share of the time goes into writing, however large the model is."""


class CheckpointPace:
    """`seconds` lie between two checkpoints; None: there is none. The first one is due after as many."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = math.inf if seconds is None else seconds
        self._due = time.monotonic() + self._seconds

    def write_if_due(self, write: Callable[[], None]) -> None:
        """Call `write` if it is time for that."""
        began = time.monotonic()
        if began >= self._due:
            write()
            ended = time.monotonic()
            self._due = ended + max(self._seconds, (ended - began) / WRITING_SHARE)
