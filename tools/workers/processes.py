"""Work in subprocesses.

One costs a few seconds of start, and makes a crash, an out-of-memory kill or a time limit the problem of one candidate
only.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tools.errors import InputError
from tools.measurement import Failure, Measurement
from tools.requests import Progress, ReportProgress, Survey, SurveyRequest, TrialRequest
from tools.waiting import wait_patiently
from tools.workers.base import STOP_SECONDS, WorkerError, Workers, failed, out_of_time, shorter_limit

_LARGEST_ANSWER = 2**24


class ProcessWorkers(Workers):
    """One subprocess for each request, which dies with its parent; at most `places` trials at a time."""

    def __init__(self, log_folder: Path, places: int) -> None:
        self._log_folder, self._places = log_folder, asyncio.Semaphore(places)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        async with self._places:
            yield

    async def survey(self, request: SurveyRequest, report: ReportProgress, most_seconds: float | None = None) -> Survey:
        answer = await self._answer(request, report, self._log_folder / "survey.log", most_seconds)
        if "result" not in answer:
            raise WorkerError(Failure.model_validate(answer["failure"]).message)
        return Survey.model_validate(answer["result"])

    async def trial(
        self, request: TrialRequest, report: ReportProgress, most_seconds: float | None = None
    ) -> Measurement:
        log, limit = self._log_folder / f"trial-{request.key}.log", shorter_limit(request, most_seconds)
        try:
            answer = await self._answer(request, report, log, limit)
        except TimeoutError:
            # Killed at that moment.
            return out_of_time(request, limit, limit)
        if "result" in answer:
            return Measurement.model_validate(answer["result"])
        return failed(request, Failure.model_validate(answer["failure"]))

    async def _answer(
        self, request: SurveyRequest | TrialRequest, report: ReportProgress, log: Path, most_seconds: float | None
    ) -> dict[str, Any]:
        """The worker's last word: {"result": ...} or {"failure": ...}. Raises TimeoutError."""
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
            async with asyncio.timeout(most_seconds):
                async for message in _messages(process, request.model_dump_json()):
                    if "progress" in message:
                        report(Progress.model_validate(message["progress"]))
                    elif "input_error" in message:
                        raise InputError(message["input_error"])
                    else:
                        return message
                return {"failure": _silent_end(await process.wait(), log).model_dump()}
        except asyncio.CancelledError:
            # Whoever cancels once more does not wait for it.
            await _written_down(process)
            raise
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _written_down(process: asyncio.subprocess.Process) -> None:
    """Have the worker write down how far it is, which takes it a training step and a checkpoint."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
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
