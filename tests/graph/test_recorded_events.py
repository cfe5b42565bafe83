"""What happens in a run is on record before it is told, and holds no key."""

from collections.abc import Callable
from pathlib import Path

import pytest

from graph.config import SearchConfig
from graph.events import recorded_in_words
from graph.session import SearchSession
from memory.records import Records
from tests.fake_openai import FakeOpenAI, Status
from tools.errors import InputError

ConfigOf = Callable[..., SearchConfig]
CANARY = "sk-canary-7f3a91c2"


def test_an_event_is_recorded_before_it_is_told(
    config_of: ConfigOf, survey_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        session, told = SearchSession.start(config_of(trials=3, cache=survey_cache)), []
        for event in session.stream():
            if event.kind == "progress":
                continue
            told.append(event)
            with Records.open(session.config.home / "records.sqlite") as records:
                recorded = records.events(session.run_id)
            assert [row.payload for row in recorded[: len(told)]] == [one.model_dump(mode="json") for one in told]
    rows = session.events()
    assert len(rows) == len(told) and {"survey", "proposal", "evaluation", "budget", "finished"} <= {
        row.kind for row in rows
    }
    assert [row.trial for row in rows if row.kind == "evaluation"] == [0, 1, 2]
    assert [recorded_in_words(row.payload) for row in rows] == [str(one) for one in told]


def test_an_event_of_another_version_is_named_by_its_kind() -> None:
    assert recorded_in_words({"kind": "harvest", "apples": 3}) == "harvest (of another version)"
    assert recorded_in_words({"kind": "finished"}) == "finished (of another version)"


def test_no_key_comes_into_the_records(
    config_of: ConfigOf, survey_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(body: dict[str, object]) -> object:
        calls.append(body)
        # An endpoint that repeats the key, as some do where they refuse it.
        return None if len(calls) < 3 else Status(500, f"this server does not like {CANARY}")

    calls: list[object] = []
    with FakeOpenAI(script=answer, seed=3, models=("fake",), key=CANARY) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(trials=3, cache=survey_cache))
        with pytest.raises(InputError, match="500"):
            session.run()
    assert len(calls) >= 3 and session.events()
    files = [path for path in session.config.home.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
