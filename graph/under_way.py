"""The evaluations under way: tasks by the number of their trial, which go on while the graph does something else."""

import asyncio
from collections.abc import Collection, Coroutine, Iterable
from typing import Any, NamedTuple

from memory.views import TrialView


class Paid(NamedTuple):
    """A recorded evaluation by its key, and the trial that it is for as it was before."""

    trial: TrialView
    key: str


class UnderWay:
    """Belongs to one process: what it held when that was killed is started again from the state of the graph.

    A task ends with the recorded evaluation, or with None where the budget had no room for it.
    """

    def __init__(self) -> None:
        self._tasks: dict[int, asyncio.Task[Paid | None]] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._tasks

    @property
    def busy(self) -> bool:
        """Whether any of them has not ended yet."""
        return any(not task.done() for task in self._tasks.values())

    def start(self, number: int, work: Coroutine[Any, Any, Paid | None]) -> None:
        """Begin to evaluate a trial that is not under way."""
        self._tasks[number] = asyncio.create_task(work, name=f"evaluation of trial {number}")

    async def wait(self, numbers: Iterable[int], count: int) -> None:
        """Return once `count` of these trials have ended, whichever they are."""
        tasks = [self._tasks[number] for number in numbers]
        # Those that need no time, since the records have them, end here.
        await asyncio.sleep(0)
        while sum(task.done() for task in tasks) < count:
            await asyncio.wait([task for task in tasks if not task.done()], return_when=asyncio.FIRST_COMPLETED)

    def ended(self, numbers: Collection[int]) -> list[int]:
        """Those of these trials whose evaluation has ended, in their order."""
        return [number for number in numbers if number in self._tasks and self._tasks[number].done()]

    def take(self, number: int) -> Paid | None:
        """What an evaluation that has ended came to. Raises what it ended with."""
        return self._tasks.pop(number).result()

    async def stop(self) -> None:
        """End them all, and with each its worker."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        # What else they ended with is nobody's any more.
        await asyncio.gather(*tasks, return_exceptions=True)
