"""A bar for one long job that has phases; plain lines, one a phase, where there is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penjing.terminal import terminal

if TYPE_CHECKING:
    from tools.requests import Progress


@contextmanager
def shown_phases() -> Iterator[Callable[["Progress"], None]]:
    """Yields the function that takes each progress in."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = terminal(stderr=True)
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    phase = ""
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0, loss="")

        def show(progress: "Progress") -> None:
            nonlocal phase
            loss = "" if progress.loss is None else f"loss {progress.loss:.4f}"
            if progress.phase != phase:
                # A new phase has its own clock.
                bar.reset(task, description=progress.phase, total=progress.total, loss=loss)
                if not console.is_terminal:
                    console.print(progress.phase, highlight=False, markup=False, soft_wrap=True)
            bar.update(task, completed=progress.done, total=progress.total, loss=loss)
            phase = progress.phase

        yield show
