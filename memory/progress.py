"""How whoever waits hears of long work on the vectors."""

from collections.abc import Callable

Told = Callable[[str, int, int], None]
"""Hears what is done, how much of it is done, and of how much. A sentence comes without either: 0 of 0."""

CHECKED = "The vectors were not closed in order, by a process that was killed perhaps: they are checked first."
MADE_AGAIN = "The vectors were damaged: they are made again from the records."
TRIALS = "trials put in"
TABLE_ROWS = "rows of tables"


def nobody(what: str, done: int, total: int) -> None:
    """Where nobody waits to hear."""
