"""Workers that are forked from a process which has imported all they need: one starts at once, not after seconds.

The near end of `tools.fork_server`.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO

from tools.waiting import patient_environment

_GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def can_fork() -> bool:
    """Whether forks can work here: macOS's own libraries forbid it, and drivers of GPUs do once they are in use."""
    return sys.platform == "linux" and not any(Path(device).exists() for device in _GPUS)


class ForkServerError(RuntimeError):
    """The process that was to fork a worker ended, with `code`; why stands in its log."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the process from which workers are forked ended with code {code}")
        self.code = code


class ForkedProcess:
    """A process whose parent is the fork server; it is used as asyncio's own are."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began, self._ended = asyncio.Event(), asyncio.Event()
        self.pid: int | None = None
        self.returncode: int | None = None

    async def begun(self) -> None:
        """Wait until it is there. Raises ForkServerError."""
        await self._began.wait()
        if self.pid is None:
            raise ForkServerError(self.returncode or 0)

    async def wait(self) -> int:
        """Its exit code once it has ended, below zero that of a signal."""
        await self._ended.wait()
        return self.returncode or 0

    def terminate(self) -> None:
        """Send SIGTERM. Raises ProcessLookupError where it has just ended."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL. Raises ProcessLookupError where it has just ended."""
        self._send(signal.SIGKILL)

    def begin(self, pid: int) -> None:
        """It is there; told by another thread."""
        self.pid = pid
        self._tell(self._began)

    def end(self, code: int) -> None:
        """It has ended, or will never be there; told by another thread."""
        self.returncode = code
        self._tell(self._ended)
        self._tell(self._began)

    def _send(self, number: int) -> None:
        if self.pid is not None and self.returncode is None:
            os.kill(self.pid, number)

    def _tell(self, event: asyncio.Event) -> None:
        # A loop that is closed has nobody who waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(event.set)


class ForkServer:
    """Starts its process at the first request or before that; it ends with `close`, or with this one.

    What it says goes to `log`.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def start(self) -> None:
        """Begin to import now."""
        with self._lock:
            self._there()

    async def fork(self, channel: socket.socket, errors: IO[bytes]) -> ForkedProcess:
        """A worker whose standard input and output is `channel`. Raises ForkServerError."""
        process = ForkedProcess()
        with self._lock:
            self._there().ask(process, channel, errors)
        await process.begun()
        return process

    def close(self) -> None:
        """End the process, and the workers that run."""
        with self._lock:
            if self._running is not None:
                self._running.close()
            self._running = None

    def _there(self) -> "_Running":
        if self._running is None or self._running.is_over:
            self._running = _Running(self.log)
        return self._running


class _Running:
    """One fork server's process, and the thread that hears what it says."""

    def __init__(self, log: Path) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, log.open("ab") as words:
            self._server = subprocess.Popen(
                # -P: a folder named like one of ours in the working directory must not be imported.
                [sys.executable, "-P", "-m", "tools.fork_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                pass_fds=[theirs.fileno()],
                env=patient_environment(),
            )
        self._lock = threading.Lock()
        self._asked: deque[ForkedProcess] = deque()
        self._living: dict[int, ForkedProcess] = {}
        self.is_over = False
        self._thread = threading.Thread(target=self._hear, name="fork server", daemon=True)
        self._thread.start()

    def ask(self, process: ForkedProcess, channel: socket.socket, errors: IO[bytes]) -> None:
        with self._lock:
            self._asked.append(process)
            try:
                socket.send_fds(self._socket, [b"fork"], [channel.fileno(), errors.fileno()])
            except OSError:
                # It has just ended, and whoever hears that tells this process too.
                if self.is_over:
                    self._asked.remove(process)
                    process.end(self._server.wait())

    def close(self) -> None:
        # It may be busy importing.
        self._server.kill()
        self._thread.join()

    def _hear(self) -> None:
        with self._socket, contextlib.suppress(ConnectionResetError):
            while words := self._socket.recv(4096):
                self._take(json.loads(words))
        code = self._server.wait()
        with self._lock:
            self.is_over = True
            for process in self._asked:
                process.end(code)
            for pid, process in self._living.items():
                # Nobody would say any more how it ends.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                process.end(-signal.SIGKILL)

    def _take(self, words: dict[str, int]) -> None:
        with self._lock:
            if "forked" in words:
                process = self._asked.popleft()
                self._living[words["forked"]] = process
                process.begin(words["forked"])
            else:
                self._living.pop(words["ended"]).end(words["code"])
