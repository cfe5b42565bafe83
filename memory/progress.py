"""How whoever waits hears of long work on the vectors."""

from collections.abc import Callable

Told = Callable[[str, int, int], None]
"""Hears what is done, how much of it is done, and of how much. A sentence comes without either: 0 of 0."""

HALF_WRITTEN = "A process ended while it wrote vectors, killed perhaps: what may be half written is made again."
MADE_AGAIN = "The vectors were damaged: they are made again."
TRIALS = "trials put in"
TABLE_ROWS = "rows of tables"
VECTORS = "vectors put back"


def nobody(what: str, done: int, total: int) -> None:
    """Where nobody waits to hear."""
