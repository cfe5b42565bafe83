"""Work in subprocesses: a crash, an out-of-memory kill or a time limit is the problem of one candidate only.

Where they can be forked from one that has imported everything, a start costs milliseconds, else a few seconds.
"""

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

from tools.errors import InputError
from tools.measurement import Failure, Measurement
from tools.requests import Progress, ReportProgress, Survey, SurveyRequest, TrialRequest
from tools.waiting import patient_environment
from tools.workers.base import STOP_SECONDS, WorkerError, Workers, failed, out_of_time, shorter_limit
from tools.workers.forked import ForkedProcess, ForkServer, ForkServerError, can_fork

Process = asyncio.subprocess.Process | ForkedProcess
_LARGEST_ANSWER = 2**24


class ProcessWorkers(Workers):
    """One subprocess for each request, which dies with its parent; at most `places` trials at a time."""

    def __init__(self, log_folder: Path, places: int) -> None:
        self._log_folder, self._places = log_folder, asyncio.Semaphore(places)
        self._forks = ForkServer(log_folder / "fork-server.log")

    def prepare(self) -> None:
        if can_fork():
            self._log_folder.mkdir(parents=True, exist_ok=True)
            self._forks.start()

    def close(self) -> None:
        self._forks.close()

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
        started = time.monotonic()
        try:
            answer = await self._answer(request, report, log, limit)
        except TimeoutError:
            return out_of_time(request, limit, time.monotonic() - started)
        if "result" in answer:
            return Measurement.model_validate(answer["result"])
        return failed(request, Failure.model_validate(answer["failure"]))

    async def _answer(
        self, request: SurveyRequest | TrialRequest, report: ReportProgress, log: Path, most_seconds: float | None
    ) -> dict[str, Any]:
        """The worker's last word: {"result": ...} or {"failure": ...}. Raises TimeoutError."""
        log.parent.mkdir(parents=True, exist_ok=True)
        end = None if most_seconds is None else asyncio.get_running_loop().time() + most_seconds
        mine, its = socket.socketpair()
        # Its standard input, which stays open as long as it is to live, and its output.
        answers, questions = await asyncio.open_connection(sock=mine, limit=_LARGEST_ANSWER)
        try:
            with its, log.open("ab") as errors:
                async with asyncio.timeout_at(end):
                    process = await self._started(its, errors)
        except BaseException as error:
            questions.close()
            if isinstance(error, ForkServerError):
                return {"failure": _silent_end(error.code, self._forks.log).model_dump()}
            raise
        try:
            async with asyncio.timeout_at(end):
                async for message in _messages(answers, questions, request.model_dump_json()):
                    if "progress" in message:
                        report(Progress.model_validate(message["progress"]))
                    elif "input_error" in message:
                        raise InputError(message["input_error"])
                    else:
                        return message
                return {"failure": _silent_end(await process.wait(), log).model_dump()}
        except (asyncio.CancelledError, TimeoutError):
            # Whoever cancels once more does not wait for it.
            await _written_down(process)
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                if process.returncode is None:
                    process.kill()
            await process.wait()
            questions.close()
            with contextlib.suppress(ConnectionError):
                await questions.wait_closed()

    async def _started(self, channel: socket.socket, errors: IO[bytes]) -> Process:
        if can_fork():
            return await self._forks.fork(channel, errors)
        return await asyncio.create_subprocess_exec(
            # -P: a folder named like one of ours in the working directory must not be imported.
            *(sys.executable, "-P", "-m", "tools.worker_process"),
            stdin=channel.fileno(),
            stdout=channel.fileno(),
            stderr=errors,
            env=patient_environment(),
        )


async def _written_down(process: Process) -> None:
    """Have the worker write down how far it is, which takes it a training step and a checkpoint."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()


async def _messages(
    answers: asyncio.StreamReader, questions: asyncio.StreamWriter, request: str
) -> AsyncIterator[dict[str, Any]]:
    # A child that died at once has closed the connection; its exit code tells the story.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        questions.write(request.encode() + b"\n")
        await questions.drain()
        while line := await answers.readline():
            yield json.loads(line)


def _silent_end(code: int, log: Path) -> Failure:
    if code == -9:
        return Failure(kind="out_of_memory", message="the worker was killed, most likely for memory (signal 9)")
    last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.is_file() else []
    reason = f": {last[0]}" if last else ""
    return Failure(kind="crashed", message=f"the worker ended with code {code}{reason} (log: {log})")
