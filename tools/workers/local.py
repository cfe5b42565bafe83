"""Work in this process."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from tools.errors import InputError
from tools.failures import FULL_DISK, failure_of, is_full_disk
from tools.measurement import Measurement
from tools.requests import Progress, ReportProgress, Survey, SurveyRequest, TrialRequest
from tools.stopping import Stop, WorkStoppedError
from tools.workers.base import WorkerError, Workers, failed, out_of_time, shorter_limit

Result = TypeVar("Result")


class LocalWorkers(Workers):
    """Work in a thread of this process: no start cost, and no protection either.

    A thread cannot be ended from outside: a limit of time, and a cancellation, holds at the end of a training step, or
    at the next progress that is reported. There is one place, since the gradients of two models in one process cannot
    be told apart.
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
            return await _in_thread(partial(run_survey, request), report, most_seconds)
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
            return await _in_thread(partial(run_trial, request), report, limit)
        except TimeoutError:
            return out_of_time(request, limit, time.monotonic() - started)
        except (RuntimeError, MemoryError, OSError) as error:
            failure = failure_of(error)
            if failure is None:
                raise
            return failed(request, failure)


async def _in_thread(
    work: Callable[[ReportProgress, Stop], Result], report: ReportProgress, seconds: float | None
) -> Result:
    """What `work` gives. Raises TimeoutError once the time is up.

    A full disk is bad input, not a result: the same work succeeds once there is room.
    """
    end = math.inf if seconds is None else time.monotonic() + seconds
    stop = Stop()

    def limited(progress: Progress) -> None:
        if time.monotonic() > end:
            stop.ask()
        stop.hear(progress)
        report(progress)

    thread = asyncio.ensure_future(asyncio.to_thread(work, limited, stop))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        stop.ask()
        # What is cancelled once more is not waited for.
        await asyncio.wait([thread])
        thread.exception()
        raise
    except WorkStoppedError as stopped:
        raise TimeoutError from stopped
    except Exception as error:
        if is_full_disk(error):
            raise InputError(FULL_DISK) from error
        raise
