"""Ctrl-C in a search: what is waited for is said, since the training step at hand is taken first."""

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graph.events import AnyEvent

WORDS = "The search ends after this training step, and writes down where it is. Ctrl-C again ends it at once."


class Interruption:
    """From now on SIGINT raises KeyboardInterrupt, and says why the end takes a moment wherever it does.

    Also where a shell has started this as a background job, with SIGINT ignored: a search must be stoppable.
    """

    def __init__(self) -> None:
        self._waits = False
        signal.signal(signal.SIGINT, self._heed)

    def hear(self, event: "AnyEvent") -> None:
        """What the search is at."""
        if event.kind == "progress":
            self._waits = event.loss is not None

    def _heed(self, number: int, frame: FrameType | None) -> None:
        if self._waits:
            # What Python would print through may be in the middle of a line of its own.
            os.write(2, f"\n{WORDS}\n".encode())
        self._waits = False
        raise KeyboardInterrupt
