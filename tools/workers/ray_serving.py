"""The far end of a Ray worker: runs on whichever node has room, in a process of its own."""

import contextlib
import json
import platform
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.stopping import Stop
from tools.workers.serving import serve

_PROGRESS_SECONDS = 0.2
Word = dict[str, Any] | BaseException | None
"""None after the last one."""


def answers(request: str, seen: list[str]) -> Iterator[str]:
    """The words about a request, each as JSON; before the first one, that it has begun.

    Args:
        request: as JSON.
        seen: files that have to be visible here, since the result would go to another disk otherwise.
    """
    yield json.dumps({"began": platform.node()})
    hidden = [file for file in seen if not Path(file).is_file()]
    if hidden:
        yield json.dumps({"input_error": _not_shared(Path(hidden[0]).parent)})
        return
    words: queue.SimpleQueue[Word] = queue.SimpleQueue()
    stop = Stop()

    def work() -> None:
        try:
            serve(json.loads(request), lambda kind, payload: words.put({kind: payload}), stop)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever reads
            words.put(error)
        words.put(None)

    # A thread of its own, since what works calls back, and Ray takes words from a generator.
    thread = threading.Thread(target=work, name="work", daemon=True)
    thread.start()
    told, phase = 0.0, ""
    try:
        while (word := _next(words)) is not None:
            if isinstance(word, BaseException):
                raise word
            if "progress" in word:
                if word["progress"]["phase"] == phase and time.monotonic() - told < _PROGRESS_SECONDS:
                    continue
                told, phase = time.monotonic(), word["progress"]["phase"]
            yield json.dumps(word)
    finally:
        # Ray cancels by a KeyboardInterrupt, here or where it waits for the next word.
        stop.ask()
        thread.join()


def _next(words: "queue.SimpleQueue[Word]") -> Word:
    """The next word; a KeyboardInterrupt is seen while there is none."""
    while True:
        with contextlib.suppress(queue.Empty):
            return words.get(timeout=_PROGRESS_SECONDS)


def _not_shared(folder: Path) -> str:
    return (
        f"Ray's node {platform.node()} cannot see {folder}: put home and cache into a folder that all nodes share "
        "(--set home=FOLDER --set cache=FOLDER)."
    )
