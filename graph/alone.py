"""The right to grow a design: one process in this home has it at a time, at most until it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from graph.context import RunContext
from graph.events import ProgressEvent
from tools.requests import Progress

LOCK_FILE = "evaluation.lock"
_WAITS = Progress(phase="waiting for another search, which grows this design", done=0, total=1)
_WAIT_SECONDS = 0.5


@asynccontextmanager
async def alone(
    context: RunContext, number: int, folder: Path, waited: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """Have the evaluation with this `folder`, which is made. While it waits it calls `waited`, which may raise."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, blocking=False, thread_local=False)
    while not lock.is_locked:
        try:
            lock.acquire()
        except Timeout:
            waited()
            context.emit(ProgressEvent(run=context.run_id, trial=number, **_WAITS.model_dump()))
            await asyncio.sleep(_WAIT_SECONDS)
    try:
        yield
    finally:
        lock.release()
