"""Patience with a chat endpoint that fails for now: it is asked again after longer and longer pauses.

The HTTP client has repeated a call `max_retries` times before it counts as failed; that takes half a minute. What is
here outlasts a server that is down for minutes. Nothing is recorded of calls that failed but their faults, so that
nothing is paid for twice.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from agents.chat_answers import Answer
from agents.chat_errors import ChatModelError

_FIRST, _LONGEST = 1 / 90, 1 / 15


def pauses(seconds: float) -> Iterator[float]:
    """The pauses of a patience of `seconds`, which they add up to: each twice the last, from 1/90 to 1/15 of it.

    With the default of 15 minutes they are 10, 20, 40 and then 60 seconds long.
    """
    pause, left = _FIRST * seconds, seconds
    while left > 0:
        yield min(pause, left)
        left, pause = left - pause, min(2 * pause, _LONGEST * seconds)


async def ask_patiently(ask: Callable[[], Awaitable[Answer]], seconds: float, told: Callable[[str], None]) -> Answer:
    """The answer of `ask`, which is called again while the endpoint fails for now, for `seconds` at most.

    `told` hears of the first failure, and of the end of it. Raises ChatModelError where a failure will not pass by
    itself, and where patience is at its end.
    """
    failed, faults = 0.0, list[str]()
    for pause in pauses(seconds):
        try:
            return _answered(await ask(), faults, failed, told)
        except ChatModelError as error:
            if not error.transient or (failed and time.monotonic() - failed > seconds):
                raise
            if not failed:
                failed = time.monotonic()
                told(f"{str(error).rstrip('.')}; the search waits and asks again, for up to {_in_words(seconds)}")
            faults += error.faults
        await asyncio.sleep(pause)
    return _answered(await ask(), faults, failed, told)


def _answered(answer: Answer, faults: list[str], failed: float, told: Callable[[str], None]) -> Answer:
    if failed:
        told(f"the chat model answers again after {_in_words(time.monotonic() - failed)}")
    return answer.model_copy(update={"faults": (*faults, *answer.faults)})


def _in_words(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
