"""Searches recorded against a real HTTP server and run again without it: the same prompts, answers and designs."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import KEY, PROSE, TRUNCATED, FakeOpenAI, Status
from tools.errors import InputError

ConfigOf = Callable[..., SearchConfig]
SOON = (("Retry-After-Ms", "5"),)


@pytest.fixture
def config_of(config_of: ConfigOf, survey_cache: Path) -> ConfigOf:
    return partial(config_of, cache=survey_cache)


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return tmp_path / "tape.jsonl"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    faults = iter([Status(429, headers=SOON), None, TRUNCATED, None, None, PROSE])
    with FakeOpenAI(script=lambda _: next(faults, None), seed=3, models=("fake", "large")) as server:
        server.set_environment(monkeypatch)
        yield server


@pytest.fixture
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def lines_of(tape: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tape.read_text().splitlines()]


def write(tape: Path, lines: list[dict[str, Any]]) -> None:
    tape.write_text("".join(json.dumps(line) + "\n" for line in lines))


def story(session: SearchSession) -> list[Any]:
    """All that a search was asked, answered, decided and measured."""
    made = {"id", "run_id", "created_at"}
    trials = [(trial.architecture.hash, trial.loss, trial.outcome, trial.parent_number) for trial in session.trials()]
    proposals = [proposal.model_dump(exclude=made) for proposal in session.proposals()]
    for proposal in proposals:
        proposal["retrieved"] = json.loads(json.dumps(proposal["retrieved"]).replace(session.run_id, "RUN"))
    return [trials, proposals, [call.model_dump(exclude=made) for call in session.calls()]]


def test_a_recorded_search_is_run_again_without_its_endpoint(
    config_of: ConfigOf, tape: Path, tmp_path: Path, endpoint: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = {"evolver": {"chat_model": "openai:large", "temperature": 0.2}}
    recorded = SearchSession.start(config_of(trials=4, max_retries=1, agents=agents, record=tape))
    recorded.run()
    calls = recorded.calls()
    assert {(call.agent, call.model, call.temperature) for call in calls} == {
        ("evolver", "large", 0.2),
        ("distiller", "fake", 0.7),
    }
    assert calls[0].faults == ["HTTP 429"] and any(call.faults == ["cut off"] for call in calls)
    kinds = [line["kind"] for line in lines_of(tape)]
    assert kinds.count("call") == len(calls) == len(endpoint.requests) - 1
    assert (kinds[0], kinds.count("memory")) == ("search", 3)
    text = tape.read_text()
    assert KEY not in text and endpoint.url not in text and "uthorization" not in text

    endpoint.close()
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    # In the same home memory knows the recorded run by now; in a new one everything is measured again.
    for home in (recorded.config.home, tmp_path / "new"):
        again = SearchSession.start(config_of(trials=4, home=home, replay=tape))
        again.run()
        assert story(again) == story(recorded)


def test_an_interrupted_recording_goes_on(
    config_of: ConfigOf, tape: Path, endpoint: FakeOpenAI, no_endpoint: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.set_environment(monkeypatch)
    session = SearchSession.start(config_of(trials=3, self_evolution=1, max_retries=1, record=tape))
    for event in session.stream():
        if event.kind == "proposal" and event.turn == 1:
            break
    before = tape.read_bytes()
    asked = len(endpoint.requests)
    assert asked
    # What a killed process leaves behind: a line that was not completed, and a call that is not in the records yet.
    tape.write_bytes(before + b'{"kind":"call","turn":2,"ag')
    resumed = SearchSession.resume(session.run_id, session.config.home)
    resumed.run()
    lines = lines_of(tape)
    assert tape.read_bytes().startswith(before)
    assert sum(line["kind"] == "call" for line in lines) == len(resumed.calls()) == len(endpoint.requests) - 1
    again = SearchSession.start(config_of(trials=3, self_evolution=1, replay=tape))
    again.run()
    assert story(again) == story(resumed)


def test_a_recording_that_does_not_fit_is_told_in_one_sentence(
    config_of: ConfigOf, tape: Path, endpoint: FakeOpenAI
) -> None:
    SearchSession.start(config_of(trials=2, max_retries=1, record=tape)).run()
    lines = lines_of(tape)

    def failure(changed: list[dict[str, Any]], **settings: Any) -> str:
        write(tape, changed)
        session = SearchSession.start(config_of(**{"trials": 2, **settings}, replay=tape))
        with pytest.raises(InputError) as caught:
            session.run()
        assert session.record.status == "interrupted" and session.record.message == str(caught.value)
        assert "\n" not in str(caught.value) and str(caught.value).startswith(f"Cannot replay {tape}: ")
        return str(caught.value)

    first = next(number for number, line in enumerate(lines) if line["kind"] == "call")
    answer = {**lines[first], "raw": lines[first]["raw"].replace('": ["', '": ["Changed: ')}
    words = failure([*lines[:first], answer, *lines[first + 1 :]])
    assert "evolver in turn 1 asks what was not recorded: message 3 (assistant) differs at character" in words
    assert "Changed: " in words
    assert "it has no call of evolver in turn 1, it ends with turn 1" in failure(lines[:first])
    assert "it has nothing of turn 1, it is empty" in failure(lines[:1])
    words = failure(lines, max_parameters=79_000)
    assert "message 1 (system) differs at character" in words
    assert "(settings that differ from the recorded ones: max_parameters)" in words
