"""Where people read: stdout or stderr as a terminal, or as a log that has no edge."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LOG_WIDTH = 160


def terminal(stderr: bool = False) -> "Console":
    """A console. In a pipe or a file tables get LOG_WIDTH columns: nobody can widen the window there afterwards."""
    from rich.console import Console

    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = LOG_WIDTH
    return console
