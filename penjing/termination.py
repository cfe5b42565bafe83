"""SIGTERM, as schedulers send it: the same orderly end as Ctrl-C, with the exit code that a shell gives it."""

import signal
from types import FrameType

TERMINATED = 128 + signal.SIGTERM

_came = False


def heed_termination() -> None:
    """From now on SIGTERM ends what runs as Ctrl-C does: nothing finished is lost, and how to go on is said."""
    signal.signal(signal.SIGTERM, _interrupt)


def termination_came() -> bool:
    """Whether it was SIGTERM that interrupted."""
    return _came


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _came
    _came = True
    # A background job of a shell starts with SIGINT ignored, and may be told to end all the same.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)
