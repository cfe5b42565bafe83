"""Waiting for an endpoint that is down for minutes: how long, how often it is asked, and what is said."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agents.chat_answers import Answer
from agents.chat_errors import ChatModelError
from agents.patience import ask_patiently, pauses
from agents.settings import ChatSettings

GOOD = Answer(raw="{}", model="fake", faults=("no JSON",))


def failing(times: int, transient: bool = True) -> Callable[[], Awaitable[Answer]]:
    left = iter(range(times))

    async def ask() -> Answer:
        if next(left, None) is None:
            return GOOD
        error = ChatModelError("The chat endpoint cannot be reached.", transient=transient)
        error.faults = ("no connection",)
        raise error

    return ask


def test_a_server_may_be_dead_for_ten_minutes_and_more() -> None:
    seconds = ChatSettings().outage_seconds
    waits = list(pauses(seconds))
    assert waits[:4] == pytest.approx([10, 20, 40, 60]) and max(waits) == pytest.approx(60)
    assert sum(waits) == pytest.approx(seconds) and seconds > 10 * 60
    # However short its attempts are, it is asked at least once a minute, and not like a hammer.
    assert len(waits) == 17


def test_no_patience_is_no_pause() -> None:
    assert list(pauses(0)) == []
    with pytest.raises(ChatModelError):
        asyncio.run(ask_patiently(failing(1), 0, lambda words: None))


def test_it_is_asked_until_it_answers_and_said_once() -> None:
    said: list[str] = []
    answer = asyncio.run(ask_patiently(failing(5), 1.8, said.append))
    assert answer.faults == (*(5 * ["no connection"]), "no JSON")
    assert len(said) == 2 and "cannot be reached; the search waits and asks again, for up to 2 s" in said[0]
    assert said[1].startswith("the chat model answers again after ")


def test_what_does_not_pass_is_not_waited_for() -> None:
    said: list[str] = []
    with pytest.raises(ChatModelError):
        asyncio.run(ask_patiently(failing(1, transient=False), 60, said.append))
    assert said == []


def test_patience_has_an_end() -> None:
    with pytest.raises(ChatModelError, match="cannot be reached"):
        asyncio.run(ask_patiently(failing(1000), 0.2, lambda words: None))
