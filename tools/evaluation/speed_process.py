"""Speed and memory of one engine, taken in a process of its own: its memory is no one else's, its crash is a result.

The owner writes a `SpeedRequest` as one JSON line to the child's stdin and keeps it open as a lifeline. The child
answers with JSON lines on stdout: {"repeat": number} after each repeat, then {"answer": ...} or {"failure": ...}.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict

from tools.evaluation.edge_figures import Engine, NotMeasured, Speed, Spread
from tools.lifeline import die_with_parent
from tools.memory_use import peak_memory_mb

MODULES: dict[Engine, str] = {
    "torch": "tools.evaluation.torch_speed",
    "llama.cpp": "tools.evaluation.llama_cpp_speed",
}


class SpeedRequest(BaseModel):
    """What to time: `path` is a model directory for torch and a GGUF file for llama.cpp; `prompt` holds token ids."""

    model_config = ConfigDict(frozen=True)

    path: Path
    format: str
    prompt: tuple[int, ...]
    new_tokens: int
    repeats: int
    threads: int


class SpeedAnswer(BaseModel):
    """What the child found: milliseconds of each repeat, to read the prompt and for each new token after the first."""

    model_config = ConfigDict(frozen=True)

    prefill_ms: tuple[float, ...]
    decode_ms: tuple[float, ...]
    engine_memory_mb: float
    peak_memory_mb: float


Repeat = Callable[[], tuple[float, float]]
"""One reading of the prompt and the tokens after it: milliseconds of the first, and of each of the others."""


def measure_speed(
    engine: Engine, request: SpeedRequest, limit_seconds: float, on_repeat: Callable[[int], None] = lambda done: None
) -> Speed | NotMeasured:
    """Time `request` with `engine` in a fresh process, which is ended after `limit_seconds`."""
    with tempfile.TemporaryFile() as log:
        message, code, late = _last_message(MODULES[engine], request, limit_seconds, on_repeat, log)
        if "answer" not in message:
            failure = message.get("failure") or _silent_end(code, late, limit_seconds, log)
            return NotMeasured(engine=engine, format=request.format, **failure)
    answer = SpeedAnswer.model_validate(message["answer"])
    return Speed(
        engine=engine,
        format=request.format,
        threads=request.threads,
        prompt_tokens=len(request.prompt),
        new_tokens=request.new_tokens,
        prefill_ms=Spread.of(answer.prefill_ms),
        decode_ms=Spread.of(answer.decode_ms),
        peak_memory_mb=answer.peak_memory_mb,
        engine_memory_mb=answer.engine_memory_mb,
    )


def serve(prepare: Callable[[SpeedRequest], Repeat]) -> None:
    """The child's side: `prepare` loads the model and gives what is repeated."""
    # What libraries print, at any time and from any language, must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def send(kind: str, payload: Any) -> None:
        answers.write(json.dumps({kind: payload}) + "\n")

    request = SpeedRequest.model_validate_json(sys.stdin.buffer.readline())
    die_with_parent(sys.stdin.buffer)
    engine_memory = peak_memory_mb()
    try:
        repeat = prepare(request)
        found = []
        for number in range(request.repeats + 1):
            found.append(repeat())
            send("repeat", number + 1)
    except (MemoryError, RuntimeError) as error:
        # On the processor torch reports a failed allocation as a plain RuntimeError.
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        send("failure", {"kind": "out_of_memory", "message": f"out of memory at {peak_memory_mb():,.0f} MB: {error}"})
        return
    prefill, decode = zip(*found[1:], strict=True)
    answer = SpeedAnswer(
        prefill_ms=prefill, decode_ms=decode, engine_memory_mb=engine_memory, peak_memory_mb=peak_memory_mb()
    )
    send("answer", answer.model_dump())


def _last_message(
    module: str, request: SpeedRequest, limit_seconds: float, on_repeat: Callable[[int], None], log: IO[bytes]
) -> tuple[dict[str, Any], int, bool]:
    """The child's last JSON line, its exit code, and whether it was ended for being late."""
    process = subprocess.Popen(
        # -P: a folder named like one of ours in the working directory must not be imported.
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env={**os.environ, "OMP_NUM_THREADS": str(request.threads)},
    )
    timer = threading.Timer(limit_seconds, process.kill)
    timer.start()
    try:
        return _read(process, request, on_repeat), process.wait(), not timer.is_alive()
    finally:
        timer.cancel()
        process.kill()
        process.wait()


def _read(
    process: "subprocess.Popen[bytes]", request: SpeedRequest, on_repeat: Callable[[int], None]
) -> dict[str, Any]:
    assert process.stdin is not None and process.stdout is not None  # noqa: S101 - both were asked for as pipes
    last: dict[str, Any] = {}
    with process.stdout as answers:
        # A child that died at once closes its stdin; its exit code tells the story.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(request.model_dump_json().encode() + b"\n")
            process.stdin.flush()
        for line in answers:
            last = json.loads(line)
            if "repeat" in last:
                on_repeat(int(last["repeat"]))
    # Its work is done; what it leaves is nobody's.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    return last


def _silent_end(code: int, late: bool, limit_seconds: float, log: IO[bytes]) -> dict[str, str]:
    if late:
        return {"kind": "time_limit", "message": f"took longer than {limit_seconds:g} s"}
    if code == -signal.SIGKILL:
        return {"kind": "out_of_memory", "message": "was killed, most likely for memory (signal 9)"}
    return {"kind": "crashed", "message": f"ended with code {code}: {_reason(log)}"}


def _reason(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    # llama.cpp's lines read "TIME LEVEL SOURCE: TEXT"; its first error is the cause of all that follow.
    errors = [line.split(" E ", 1)[1] for line in lines if " E " in line]
    return (errors[0] if errors else (lines or ["it said nothing"])[-1])[:300]
