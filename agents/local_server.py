"""The local chat model: llama.cpp's OpenAI-compatible server in a process of its own, and the handle that owns it.

`python -m agents.local_server --model FILE.gguf` serves on a free port of 127.0.0.1, prints one JSON line
`{"url": "http://127.0.0.1:PORT/v1"}` and ends when its standard input ends. Requests must
carry the key in PENJING_LOCAL_SERVER_KEY, where that is set.
"""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from agents.chat_errors import ChatModelError
from agents.model_traits import LOCAL_CONTEXT
from tools.lifeline import die_with_parent

_KEY_VARIABLE = "PENJING_LOCAL_SERVER_KEY"
_ROOT = Path(__file__).parents[1]
# Requests to 127.0.0.1 must not go to a proxy that the environment names.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def serve(model: Path, context: int, threads: int, key: str = "") -> None:
    """Serves until the process is ended. One slot, so that its cache of the last prompt is the one that counts.

    Args:
        key: API key that requests must carry; none where empty. Without one, any web page that is open in a browser
            of this machine could ask the server.
    """
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_ctx = context
    parameters.n_parallel = 1
    parameters.cache_prompt = True
    parameters.ui = False
    parameters.verbosity = 2
    if key:
        parameters.api_keys = [key]
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    # llama.cpp may write to the standard output at any time; the one line of ours goes to the real one.
    output = os.dup(1)
    os.dup2(2, 1)
    server = xllamacpp.Server(parameters)
    os.write(output, (json.dumps({"url": f"{server.listening_address}/v1"}) + "\n").encode())
    os.close(output)
    threading.Event().wait()


class LocalServer:
    """Owns a server process: starts it on demand, ends it, and the system ends it where this process is killed.

    Args:
        model: GGUF file.
        context: longest prompt and answer together, in tokens.
        threads: of the processor; `default_threads` when left out.
        log_file: what llama.cpp says; a temporary file, removed at the end, when left out.
        start_seconds: longest wait for the start.
    """

    def __init__(
        self,
        model: Path,
        *,
        context: int = LOCAL_CONTEXT,
        threads: int | None = None,
        log_file: Path | None = None,
        start_seconds: float = 120.0,
    ) -> None:
        self._model = model
        self._context = context
        self._threads = threads or default_threads()
        self._log_file = log_file
        self._own_log: Path | None = None
        self._start_seconds = start_seconds
        self.key = secrets.token_urlsafe(24)
        """What requests must carry as API key."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Base URL, ending in /v1; starts the server where it does not run.

        Raises:
            ChatModelError: it ended at its start, or did not come up in time.
        """
        with self._lock:
            if not self.running:
                self._start()
            return self._url

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int | None:
        """Of the running server."""
        return self._process.pid if self._process is not None and self.running else None

    def close(self) -> None:
        """Ends the server; does nothing where it does not run."""
        with self._lock:
            self._stop()
            self._remove_own_log()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        self._stop()
        log = self._log()
        command = [sys.executable, "-m", "agents.local_server", "--model", str(self._model.resolve())]
        command += ["--context", str(self._context), "--threads", str(self._threads)]
        with log.open("ab") as stream:
            # A session of its own: Ctrl-C reaches the owner alone, which may still want an answer before it closes.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                cwd=_ROOT,
                env={**os.environ, _KEY_VARIABLE: self.key},
                close_fds=True,
                start_new_session=True,
            )
        try:
            self._url = self._first_line(self._process, log)
            self._wait_until_it_answers(log)
        except BaseException:
            self._stop()
            self._remove_own_log()
            raise

    def _first_line(self, process: subprocess.Popen[bytes], log: Path) -> str:
        assert process.stdout is not None  # noqa: S101 - Popen was given a pipe
        timer = threading.Timer(self._start_seconds, process.kill)
        timer.start()
        try:
            line = process.stdout.readline()
        finally:
            timer.cancel()
            process.stdout.close()
        if not line:
            code = process.wait()
            in_time = f"ended at its start with exit code {code}"
            late = f"did not start within {self._start_seconds:g} s"
            raise self._failure(log, late if timer.finished.is_set() and code == -signal.SIGKILL else in_time)
        return str(json.loads(line)["url"])

    def _wait_until_it_answers(self, log: Path) -> None:
        health = self._url.removesuffix("/v1") + "/health"
        deadline = time.monotonic() + self._start_seconds
        while self.running and time.monotonic() < deadline:
            try:
                with _DIRECT.open(health, timeout=10) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.05)
        raise self._failure(log, "did not answer after its start")

    def _failure(self, log: Path, what: str) -> ChatModelError:
        lines = [line.strip() for line in log.read_text(errors="replace").split("\n") if line.strip()]
        # llama.cpp's lines read "TIME LEVEL SOURCE: TEXT"; its first error is the cause of all that follow.
        errors = [line.split(" E ", 1)[1] for line in lines if " E " in line]
        reason = errors[0] if errors else (lines or ["it said nothing"])[-1]
        return ChatModelError(
            f"The local model server {what} ({reason[:200]}): see that {self._model} is a readable GGUF file and "
            f"that memory is free, or choose another chat_model."
        )

    def _log(self) -> Path:
        if self._log_file is not None:
            self._log_file.parent.mkdir(parents=True, exist_ok=True)
            return self._log_file
        if self._own_log is None:
            descriptor, name = tempfile.mkstemp(prefix="penjing-local-server-", suffix=".log")
            os.close(descriptor)
            self._own_log = Path(name)
        return self._own_log

    def _remove_own_log(self) -> None:
        if self._own_log is not None:
            self._own_log.unlink(missing_ok=True)
            self._own_log = None

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def default_threads() -> int:
    """Half of the processor's threads that this process may use, 1 to 8.

    llama.cpp's threads wait for each other after every operation: where another process takes one of their cores,
    all of them stand still. On 2 cores under load, 1 thread wrote 64 tokens/s and 2 threads 2 to 9.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    available = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return min(8, max(1, available // 2))


def main() -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(prog="python -m agents.local_server", description="Serves a GGUF chat model.")
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument(
        "--context", type=int, default=LOCAL_CONTEXT, help="longest prompt and answer together, in tokens"
    )
    parser.add_argument("--threads", type=int, default=default_threads(), help="threads of the processor")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent()
    serve(arguments.model, arguments.context, arguments.threads, os.environ.get(_KEY_VARIABLE, ""))


if __name__ == "__main__":
    main()
