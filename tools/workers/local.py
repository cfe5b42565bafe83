"""Work in this process."""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from tools.errors import InputError
from tools.failures import FULL_DISK, failure_of, is_full_disk
from tools.measurement import Measurement
from tools.requests import Progress, ReportProgress, Survey, SurveyRequest, TrialRequest
from tools.workers.base import WorkerError, Workers, failed, out_of_time, shorter_limit

Result = TypeVar("Result")


class LocalWorkers(Workers):
    """Work in a thread of this process: no start cost, and no protection either.

    A thread cannot be ended from outside: a limit of time, and a cancellation, holds at the next progress that is
    reported. There is one place, since the gradients of two models in one process cannot be told apart.
    """

    def __init__(self) -> None:
        self._place = asyncio.Semaphore(1)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        async with self._place:
            yield

    async def survey(self, request: SurveyRequest, report: ReportProgress, most_seconds: float | None = None) -> Survey:
        from tools.survey import run_survey

        try:
            with _limited(report, most_seconds) as limited:
                return await _with_room(asyncio.to_thread(run_survey, request, limited))
        except (RuntimeError, MemoryError, OSError) as error:
            failure = failure_of(error)
            if failure is None:
                raise
            raise WorkerError(failure.message) from error

    async def trial(
        self, request: TrialRequest, report: ReportProgress, most_seconds: float | None = None
    ) -> Measurement:
        from tools.trial import run_trial

        limit, started = shorter_limit(request, most_seconds), time.monotonic()
        try:
            with _limited(report, limit) as limited:
                return await _with_room(asyncio.to_thread(run_trial, request, limited))
        except TimeoutError:
            return out_of_time(request, limit, time.monotonic() - started)
        except (RuntimeError, MemoryError, OSError) as error:
            failure = failure_of(error)
            if failure is None:
                raise
            return failed(request, failure)


@contextmanager
def _limited(report: ReportProgress, seconds: float | None) -> Iterator[ReportProgress]:
    """`report`, which raises TimeoutError once the time is up, or when nobody waits for the result any more."""
    end = math.inf if seconds is None else time.monotonic() + seconds
    left = threading.Event()

    def limited(progress: Progress) -> None:
        if left.is_set() or time.monotonic() > end:
            raise TimeoutError
        report(progress)

    try:
        yield limited
    finally:
        left.set()


async def _with_room(work: Awaitable[Result]) -> Result:
    """Await `work`; a full disk is bad input, not a result: the same work succeeds once there is room."""
    try:
        return await work
    except Exception as error:
        if is_full_disk(error):
            raise InputError(FULL_DISK) from error
        raise
