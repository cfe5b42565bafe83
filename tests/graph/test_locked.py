"""Another process locks a file of a search: shortly, which is waited for; for long, which is told in one sentence."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import graph.checkpoint_file as checkpoint_file
import memory.database as database
from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI
from tests.locker import locked
from tools.errors import InputError

ConfigOf = Callable[..., SearchConfig]
PLACES = ["records", "checkpoints"]


def file_of(session: SearchSession, place: str) -> Path:
    return session.config.home / "records.sqlite" if place == "records" else session.folder.checkpoints


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> FakeOpenAI:
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        yield server


@pytest.mark.parametrize("place", PLACES)
def test_a_short_lock_is_waited_for(place: str, config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI) -> None:
    session = SearchSession.start(config_of(cache=survey_cache, trials=3, self_evolution=1))
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(file_of(session, place)):
            held.set()
            release.wait(2)

    holder = threading.Thread(target=hold)
    for event in session.stream():
        if event.kind == "evaluation" and event.trial == 1:
            holder.start()
            assert held.wait(30)
    holder.join()
    assert session.record.status == "finished" and len(session.trials()) == 3
    assert len(session.calls()) == len(endpoint.requests)


@pytest.mark.parametrize("place", PLACES)
def test_a_long_lock_is_one_sentence_and_loses_nothing(
    place: str, config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (database, checkpoint_file):
        monkeypatch.setattr(module, "LOCK_SECONDS", 1.0)
    session = SearchSession.start(config_of(cache=survey_cache, trials=3, self_evolution=1))
    stream, seen = session.stream(), []
    for event in stream:
        if event.kind == "evaluation":
            seen.append(event.trial)
        if seen == [0, 1]:
            break
    with (
        locked(file_of(session, place)),
        pytest.raises(InputError, match="locked by another process for 1 s") as caught,
    ):
        for event in stream:
            if event.kind == "evaluation":
                seen.append(event.trial)
    assert "\n" not in str(caught.value)
    resumed = SearchSession.resume(session.run_id, session.config.home)
    told = [event.trial for event in resumed.stream() if event.kind == "evaluation"]
    assert resumed.record.status == "finished" and len(resumed.trials()) == 3
    assert sorted({*seen, *told}) == [0, 1, 2]
    assert len(session._records.evaluations(session.run_id)) == 3, "nothing was paid for twice"
    assert len(session.calls()) == len({(call.turn, call.schema_name, str(call.messages)) for call in session.calls()})
