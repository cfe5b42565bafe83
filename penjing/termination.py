"""Ctrl-C, and SIGTERM as schedulers send it: an orderly end, with the exit codes that a shell gives them."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 128 + signal.SIGTERM

_came = False


def heed_termination() -> None:
    """From now on SIGTERM ends what runs as Ctrl-C does: nothing finished is lost, and how to go on is said."""
    signal.signal(signal.SIGTERM, _interrupt)


def termination_came() -> bool:
    """Whether it was SIGTERM that interrupted."""
    return _came


class OrderlyEnd:
    """What becomes of a signal: while `may_wait` is set it is only noted, and whoever works looks at `asked`.

    Else, and at a second signal, the work ends at once, by KeyboardInterrupt; with `patient` a second one is passed
    over, as somebody else sends it who will not wait for long.
    """

    def __init__(self, words: str, patient: bool = False) -> None:
        self.may_wait = self.asked = False
        self._words, self._patient = words, patient

    def heed(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        global _came
        _came = _came or number == signal.SIGTERM
        if self.asked and self._patient:
            return
        if self.asked or not self.may_wait:
            raise KeyboardInterrupt
        self.asked = True
        # What Python would print through may be in the middle of a line of its own.
        os.write(2, f"\n{self._words}\n".encode())


@contextmanager
def orderly_end(words: str, patient: bool = False) -> Iterator[OrderlyEnd]:
    """Within the block signals end work between two of its steps. `words` are said when the first one comes."""
    end = OrderlyEnd(words, patient)
    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
    # A background job of a shell starts with SIGINT ignored.
    heeded = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    try:
        for number in heeded:
            before[number] = signal.signal(number, end.heed)
        yield end
    finally:
        for heard, handler in before.items():
            signal.signal(heard, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _came
    _came = True
    # A background job of a shell starts with SIGINT ignored, and may be told to end all the same.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)
