"""Where candidates are evaluated: in this process, or each in a subprocess of its own that dies with its parent.

A subprocess costs a few seconds of start, and makes a crash, an out-of-memory kill or a time limit the problem of one
candidate only.
"""

import asyncio
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, TypeVar

from tools.errors import InputError
from tools.failures import FULL_DISK, failure_of, is_full_disk
from tools.measurement import Failure, Measurement
from tools.requests import Progress, ReportProgress, Survey, SurveyRequest, TrialRequest
from tools.waiting import wait_patiently

_LARGEST_ANSWER = 2**24
Result = TypeVar("Result")


class WorkerError(RuntimeError):
    """A worker ended without an answer; the message says how and where its log is."""


class Workers(ABC):
    """Contract: `survey` returns or raises; `trial` always returns a Measurement, a failure being one of its kinds.

    Both may be cancelled, which ends the work and frees its memory. InputError passes through unchanged. Neither takes
    longer than `most_seconds`.
    """

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


class LocalWorkers(Workers):
    """Work in a thread of this process: no start cost, and no protection either.

    A thread cannot be ended from outside: a limit of time holds at the next progress that is reported.
    """

    async def survey(self, request: SurveyRequest, report: ReportProgress, most_seconds: float | None = None) -> Survey:
        from tools.survey import run_survey

        return await _with_room(asyncio.to_thread(run_survey, request, _limited(report, most_seconds)))

    async def trial(
        self, request: TrialRequest, report: ReportProgress, most_seconds: float | None = None
    ) -> Measurement:
        from tools.trial import run_trial

        limit, started = _shorter(request, most_seconds), time.monotonic()
        try:
            return await _with_room(asyncio.to_thread(run_trial, request, _limited(report, limit)))
        except TimeoutError:
            return _out_of_time(request, limit, time.monotonic() - started)
        except (RuntimeError, MemoryError, OSError) as error:
            failure = failure_of(error)
            if failure is None:
                raise
            return _failed(request, failure)


def _limited(report: ReportProgress, seconds: float | None) -> ReportProgress:
    """`report`, which raises TimeoutError once the time is up."""
    end = None if seconds is None else time.monotonic() + seconds

    def limited(progress: Progress) -> None:
        if end is not None and time.monotonic() > end:
            raise TimeoutError
        report(progress)

    return limited


def _shorter(request: TrialRequest, most_seconds: float | None) -> float:
    limit = request.recipe.time_limit_seconds
    return limit if most_seconds is None else min(limit, most_seconds)


async def _with_room(work: Awaitable[Result]) -> Result:
    """Await `work`; a full disk is bad input, not a result: the same work succeeds once there is room."""
    try:
        return await work
    except Exception as error:
        if is_full_disk(error):
            raise InputError(FULL_DISK) from error
        raise


class ProcessWorkers(Workers):
    """One subprocess for each request."""

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder

    async def survey(self, request: SurveyRequest, report: ReportProgress, most_seconds: float | None = None) -> Survey:
        async with asyncio.timeout(most_seconds):
            answer = await self._answer(request, report, self._log_folder / "survey.log")
        if "result" not in answer:
            raise WorkerError(Failure.model_validate(answer["failure"]).message)
        return Survey.model_validate(answer["result"])

    async def trial(
        self, request: TrialRequest, report: ReportProgress, most_seconds: float | None = None
    ) -> Measurement:
        log, limit = self._log_folder / f"trial-{request.key}.log", _shorter(request, most_seconds)
        try:
            async with asyncio.timeout(limit):
                answer = await self._answer(request, report, log)
        except TimeoutError:
            # Killed at that moment.
            return _out_of_time(request, limit, limit)
        if "result" in answer:
            return Measurement.model_validate(answer["result"])
        return _failed(request, Failure.model_validate(answer["failure"]))

    async def _answer(self, request: SurveyRequest | TrialRequest, report: ReportProgress, log: Path) -> dict[str, Any]:
        """The worker's last word: {"result": ...} or {"failure": ...}."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                # -P: a folder named like one of ours in the working directory must not be imported.
                *(sys.executable, "-P", "-m", "tools.worker_process"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=_LARGEST_ANSWER,
                env=_environment(),
            )
        try:
            async for message in _messages(process, request.model_dump_json()):
                if "progress" in message:
                    report(Progress.model_validate(message["progress"]))
                elif "input_error" in message:
                    raise InputError(message["input_error"])
                else:
                    return message
            return {"failure": _silent_end(await process.wait(), log).model_dump()}
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    wait_patiently(environment)
    return environment


async def _messages(process: asyncio.subprocess.Process, request: str) -> AsyncIterator[dict[str, Any]]:
    assert process.stdin is not None and process.stdout is not None  # noqa: S101 - both were asked for as pipes
    process.stdin.write(request.encode() + b"\n")
    # A child that died at once closes the pipe; its exit code tells the story.
    try:
        await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        return
    while line := await process.stdout.readline():
        yield json.loads(line)


def _silent_end(code: int, log: Path) -> Failure:
    if code == -9:
        return Failure(kind="out_of_memory", message="the worker was killed, most likely for memory (signal 9)")
    last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.is_file() else []
    reason = f": {last[0]}" if last else ""
    return Failure(kind="crashed", message=f"the worker ended with code {code}{reason} (log: {log})")


def _failed(request: TrialRequest, failure: Failure) -> Measurement:
    return Measurement(fidelity=request.fidelity, parameters=request.design.parameters, failure=failure)


def _out_of_time(request: TrialRequest, limit: float, seconds: float) -> Measurement:
    failure = Failure(kind="time_limit", message=f"took longer than {limit:g} s")
    return _failed(request, failure).model_copy(update={"seconds": seconds})


def make_workers(setting: str, log_folder: Path) -> Workers:
    """`local` or `processes`. Raises InputError for anything else."""
    if setting == "local":
        return LocalWorkers()
    if setting == "processes":
        return ProcessWorkers(log_folder)
    raise InputError(f"workers={setting!r} is not known: use 'processes' or 'local'.")
