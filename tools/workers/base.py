"""The contract of whatever carries out surveys and trials."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tools.measurement import Failure, Measurement
from tools.requests import ReportProgress, Survey, SurveyRequest, TrialRequest

STOP_SECONDS = 60.0
"""So long a worker that is cancelled, or out of time, may take to write down how far it is."""
GIVEN_AGAIN = "given to another worker: its own or the node of that died"
"""The phase that is told where a trial is given to another worker."""


class WorkerError(RuntimeError):
    """A worker ended without an answer; the message says how and where its log is."""


class Workers(ABC):
    """Contract: `survey` returns or raises; `trial` always returns a Measurement, a failure being one of its kinds.

    Both may be cancelled, and neither takes longer than `most_seconds`. Either ends the work and frees its memory; what
    trains ends its step and is written down first, in no more than STOP_SECONDS, but not when it is cancelled once
    more. InputError passes through unchanged. Tested for each of them by `tests/tools/worker_contract.py`.
    """

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Begin with what the first request would wait for; there may be none."""

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One of the places that there are for trials; wait for it before the time of the trial is counted."""
        yield

    @abstractmethod
    async def survey(self, request: SurveyRequest, report: ReportProgress, most_seconds: float | None = None) -> Survey:
        """Survey a source.

        Raises InputError for bad input, WorkerError when the worker died, and TimeoutError.
        """

    @abstractmethod
    async def trial(
        self, request: TrialRequest, report: ReportProgress, most_seconds: float | None = None
    ) -> Measurement:
        """Grow and measure one design. Its recipe's time limit holds too."""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Let go of what was opened for the first request. Nothing may be asked of them after it."""


def shorter_limit(request: TrialRequest, most_seconds: float | None) -> float:
    """The limit that is reached first: the recipe's, or `most_seconds`."""
    limit = request.recipe.time_limit_seconds
    return limit if most_seconds is None else min(limit, most_seconds)


def failed(request: TrialRequest, failure: Failure) -> Measurement:
    """The result of a trial that came to nothing."""
    return Measurement(fidelity=request.fidelity, parameters=request.design.parameters, failure=failure)


def out_of_time(request: TrialRequest, limit: float, seconds: float) -> Measurement:
    """The result of a trial that was ended after `seconds`, since it took longer than `limit`."""
    failure = Failure(kind="time_limit", message=f"took longer than {limit:g} s")
    return failed(request, failure).model_copy(update={"seconds": seconds})
