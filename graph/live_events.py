"""The events of a search while it runs: the work is done by an event loop in a thread of its own, and watched here."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Generator

from graph.config import SearchConfig
from graph.events import AnyEvent
from memory.records import Records
from tools.errors import InputError
from tools.imports import uncollected


def live_events(run_id: str, config: SearchConfig, records: Records) -> Generator[AnyEvent, None, None]:
    """Run the search to its end, yield what happens, and record how it stands when nobody works on it any more.

    Closing the generator stops the work; what trains ends its step and is written down first, but not at a second
    KeyboardInterrupt. Raises InputError for bad input, and whatever else ended the search.
    """
    events: queue.SimpleQueue[AnyEvent | None] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    records.update_run(run_id, status="running", message="", config=config.model_dump(mode="json"), finished_at=None)
    task = loop.create_task(_drive(run_id, config, records, events.put))
    task.add_done_callback(lambda _: events.put(None))
    thread = threading.Thread(target=_run_loop, args=(loop, task), name=f"search-{run_id}")
    thread.start()
    try:
        while (event := events.get()) is not None:
            yield event
    finally:
        try:
            _cancel(loop, task)
            thread.join()
        except KeyboardInterrupt:
            _cancel(loop, task)
            thread.join()
            raise
        finally:
            _settle(run_id, records, task)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


def _cancel(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    """Once more means at once."""
    if not task.done():
        # The search may end of itself just now, and its loop with it: then there is nothing to cancel.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(task.cancel)


async def _drive(run_id: str, config: SearchConfig, records: Records, emit: Callable[[AnyEvent], None]) -> None:
    with uncollected():
        from graph.drive import drive

    def tell(event: AnyEvent) -> None:
        # On disk before anybody reads it. How far long work is means nothing afterwards.
        if event.kind != "progress":
            trial = getattr(event, "trial", None)
            records.add_event(run_id, event.kind, event.model_dump(mode="json"), trial)
        emit(event)

    await drive(run_id, config, records, tell)


def _settle(run_id: str, records: Records, task: "asyncio.Task[None]") -> None:
    """Record how the run stands now that nobody works on it."""
    if records.run(run_id).status == "finished":
        return
    error = None if task.cancelled() else task.exception()
    status = "failed" if error is not None and not isinstance(error, InputError) else "interrupted"
    records.update_run(run_id, status=status, message="" if error is None else str(error))


def _run_loop(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(asyncio.wait([task]))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
