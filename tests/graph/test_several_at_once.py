"""Several designs under way: the next is asked for as soon as one has ended, and all that is so in a replay too."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import graph.drive
from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI
from tests.graph.test_replay import story
from tools.errors import InputError
from tools.measurement import Measurement
from tools.requests import ReportProgress, TrialRequest
from tools.workers import LocalWorkers

ConfigOf = Callable[..., SearchConfig]
TITLE = "# Being measured now"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        yield server


class SlowWorkers(LocalWorkers):
    """Work as this process does it, but the one trial in `slow` place is done only after `others` more."""

    def __init__(self, slow: int, others: int) -> None:
        super().__init__()
        self._slow, self._others, self._begun, self._ended = slow, others, 0, 0
        self._enough = asyncio.Event()
        self.cancelled = False

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        yield

    async def trial(
        self, request: TrialRequest, report: ReportProgress, most_seconds: float | None = None
    ) -> Measurement:
        place = self._begun
        self._begun += 1
        if place == self._slow:
            try:
                await self._enough.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        async with super().place():
            found = await super().trial(request, report, most_seconds)
        self._ended += 1
        if self._ended > self._slow + self._others - 1:
            self._enough.set()
        return found


def searched(session: SearchSession) -> list[int]:
    """The trials in the order in which they were taken up."""
    return [event.trial for event in session.stream() if event.kind == "evaluation"]


def prompts(session: SearchSession) -> dict[int, str]:
    """The first prompt of each turn of the agents."""
    found: dict[int, str] = {}
    for call in session.calls():
        found.setdefault(call.turn, call.messages[1]["content"])
    return found


def test_one_ends_and_the_next_is_asked_for(
    config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = tmp_path / "tape.jsonl"
    settings: dict[str, Any] = {"trials": 6, "self_evolution": 3, "parallel": 2, "cache": survey_cache}
    monkeypatch.setattr(graph.drive, "workers_of", lambda *_: SlowWorkers(slow=1, others=3))
    session = SearchSession.start(config_of(**settings, record=tape))
    order = searched(session)
    assert order[:4] == [0, 2, 3, 4] and sorted(order) == [*range(6)]
    trials, told = session.trials(), prompts(session)
    assert len({trial.architecture.hash for trial in trials}) == 6
    assert TITLE not in told[1]
    for turn in range(2, 6):
        rows = told[turn].partition(TITLE)[2].partition("What comes of these")[0].strip().splitlines()
        assert rows == [f"- {trials[1].architecture.describe()}"]
    turns = [proposal.turn for proposal in session.proposals() if proposal.outcome not in ("open", "unparsed")]
    assert turns == [*range(6)]
    assert all(span.status == "done" for span in session.spans())

    monkeypatch.undo()
    again = SearchSession.start(config_of(**settings, replay=tape, home=tmp_path / "other home"))
    assert searched(again) == order, "also where trial 1 is as quick as the others"
    assert story(again) == story(session)


def test_what_ends_the_search_ends_the_others(
    config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[SlowWorkers] = []

    class FailingWorkers(SlowWorkers):
        async def trial(
            self, request: TrialRequest, report: ReportProgress, most_seconds: float | None = None
        ) -> Measurement:
            if self._begun == 2:
                raise InputError("No space is left on the disk.")
            return await super().trial(request, report, most_seconds)

    def make(*_: Any) -> SlowWorkers:
        made.append(FailingWorkers(slow=1, others=3))
        return made[0]

    settings = {"trials": 4, "parallel": 2, "cache": survey_cache}
    with monkeypatch.context() as patch:
        patch.setattr(graph.drive, "workers_of", make)
        session = SearchSession.start(config_of(**settings))
        with pytest.raises(InputError, match="No space"):
            session.run()
    assert made[0].cancelled and session.record.status == "interrupted"
    resumed = SearchSession.resume(session.run_id, session.config.home)
    resumed.run()
    assert all(trial.succeeded for trial in resumed.trials()) and len(resumed.trials()) == 4
    assert len(resumed.calls()) == len(endpoint.requests), "what was asked is not asked again"
