"""A running search on a terminal: a bar with stage, trial, best loss and time left; plain lines where there is none."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from graph.budget import Cap, most_used
from graph.events import (
    AnyEvent,
    BudgetEvent,
    EvaluationEvent,
    ProgressEvent,
    StageEvent,
)
from tools.fidelity import fidelity_in_words
from tools.workers.base import GIVEN_AGAIN

# Shares of one trial that its phases take, measured with the quick preset; they only smooth the bar.
_PHASES = {
    "cutting": (0.0, 0.1),
    "measuring, cut": (0.1, 0.2),
    "growing": (0.2, 0.9),
    "measuring, grown": (0.9, 0.95),
    "saving": (0.95, 0.96),
    "scoring tasks": (0.96, 1.0),
}
# Short, since a terminal may have 80 columns.
_CAPS: dict[Cap, str] = {
    "llm_tokens": "tokens",
    "usd": "USD",
    "evaluation_seconds": "evaluation",
    "wall_clock_seconds": "clock",
}


class SearchProgress:
    """Shows events on `console`; use as a context manager."""

    def __init__(self, console: Console, trials: int, already: int = 0) -> None:
        self._console, self._trials = console, trials
        self._already, self._done, self._current = already, already, 0.0
        self._started = time.monotonic()
        self._first_trial: float | None = None
        self._best: float | None = None
        self._best_fidelity = ""
        self._phase = "starting"
        self._last_line = ""
        self._budget = ""
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=10),
            TaskProgressColumn(),
            TextColumn("{task.fields[trial]}"),
            TextColumn("best {task.fields[best]}"),
            TextColumn("{task.fields[elapsed]}"),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[budget]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            "starting", total=float(trials), trial="", best="-", left="", elapsed="0:00", budget=""
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Without the bar, for a question."""
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def show(self, event: AnyEvent) -> None:
        """Take one event in."""
        match event:
            case ProgressEvent():
                self._advance(event)
            case StageEvent():
                self._phase = event.stage.replace("_", " ")
                self._say(str(event), quiet=event.stage != "survey")
            case EvaluationEvent():
                # A promotion is no further trial.
                self._done += event.rung == 0
                self._current = 0.0
                self._best = event.best_loss if event.best_accuracy is None else event.best_accuracy
                self._best_fidelity = fidelity_in_words(event.best_fidelity) if event.best_fidelity else ""
                self._say(str(event))
            case BudgetEvent():
                used = most_used(event.caps, event.spent)
                self._budget = "" if used is None else f"{_CAPS[used[0]]} {used[1]:.0%}"
                self._say(f"spent: {event}", quiet=True)
            case _:
                self._say(str(event))
        self._update()

    def _advance(self, event: ProgressEvent) -> None:
        if event.trial is None:
            self._phase = event.phase
            self._line(f"survey: {event.phase}")
            return
        start, end = _PHASES.get(event.phase, (0.0, 0.0))
        if self._first_trial is None:
            self._first_trial = time.monotonic()
        self._current = start + (end - start) * (event.done / max(1, event.total))
        self._phase = event.phase
        self._line(f"trial {event.trial}: {event.phase}", stays=event.phase == GIVEN_AGAIN)

    def _update(self) -> None:
        position = min(float(self._trials), self._done + self._current)
        best = "-" if self._best is None else f"{self._best:.4f} {self._best_fidelity}".rstrip()
        trial = f"trial {min(self._done + 1, self._trials)}/{self._trials}"
        self._bar.update(
            self._task,
            completed=position,
            description=self._phase,
            trial=trial,
            best=best,
            elapsed=_clock(time.monotonic() - self._started),
            left=self._left(position),
            budget=self._budget,
        )

    def _left(self, position: float) -> str:
        here = position - self._already
        if self._first_trial is None or here < 0.3:
            return "estimating"
        seconds = (time.monotonic() - self._first_trial) / here * (self._trials - position)
        return f"{_clock(seconds)} left"

    def _say(self, text: str, quiet: bool = False) -> None:
        """A line that stays; `quiet` ones only where there is no bar."""
        if not quiet or not self._console.is_terminal:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _line(self, text: str, stays: bool = False) -> None:
        """A line for logs, once for each phase; one that `stays` is on a terminal too."""
        if (stays or not self._console.is_terminal) and text != self._last_line:
            self._last_line = text
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"
