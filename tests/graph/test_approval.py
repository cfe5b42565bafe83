"""Nothing but trial 0 is paid for before its user has decided: accepted, edited, or back to its author."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graph.budget import BudgetCaps
from graph.config import SearchConfig
from graph.session import SearchSession
from graph.spending import Spending
from memory.ledger import ledger_of
from memory.records import Records
from tests.fake_openai import FakeOpenAI
from tools.errors import InputError

ConfigOf = Callable[..., SearchConfig]
WORDS = 'Keep the "late" layers wide.'


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Any:
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        yield server


def asked_for(session: SearchSession) -> Any:
    (waiting,) = session.waiting()
    return waiting


def test_accept_edit_and_reject(
    config_of: ConfigOf, survey_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: FakeOpenAI
) -> None:
    tape = tmp_path / "tape.jsonl"
    settings = {"trials": 4, "self_evolution": 3, "cache": survey_cache}
    session = SearchSession.start(config_of(**settings, approve=True, record=tape))
    rejected, edited, events = "", "", []
    for event in session.stream():
        events.append(event)
        if event.kind != "approval" or event.decision:
            continue
        waiting = asked_for(session)
        assert waiting.trial == event.trial and waiting.change == event.change and waiting.change
        assert session.trial(event.trial).measurement is None
        if event.trial == 1:
            session.decide(1, "accept")
            with pytest.raises(InputError, match="was accepted already"):
                session.decide(1, "reject", words="too late")
        elif event.trial == 2:
            rejected = session.trial(2).architecture.hash
            with pytest.raises(InputError, match="Say in 1 to"):
                session.decide(2, "reject", words="  ")
            session.decide(2, "reject", words=WORDS)
        elif event.trial == 3:
            draft = waiting.draft.model_dump(mode="json")
            for wrong, words in (
                ({"hidden_size": 63}, "hidden_size 63 is not allowed"),
                ('{"hidden_size": 64, "layers": []}', "cannot be read: layers"),
                ("{", "no JSON"),
                ({"spans": [{**draft["spans"][0], "intermediate_size": 8}]}, "below the smallest size"),
            ):
                with pytest.raises(InputError, match=words):
                    session.decide(3, "edit", wrong)
            shared = session.trial(0).architecture
            with pytest.raises(InputError, match="it is the same design as trial 0"):
                session.decide(3, "edit", session_draft(session, shared))
            session.decide(3, "edit", another(session, waiting.draft))
            edited = session.trial(3).architecture.hash
        else:
            session.decide(event.trial, "accept")
    trials = {trial.number: trial for trial in session.trials()}
    assert sorted(trials) == [0, 1, 2, 3, 4], "trial 2 takes a number, but no place"
    assert trials[2].measurement is None and trials[2].is_rejected
    assert all(trials[number].loss is not None for number in (0, 1, 3, 4))
    assert trials[3].architecture.hash == edited and trials[3].outcome == "edited"
    assert rejected not in {trial.architecture.hash for trial in trials.values() if trial.number != 2}
    assert session.waiting() == [] and session.record.status == "finished"

    told = [str(call.messages[-1]["content"]) for call in session.calls()]
    assert [WORDS in text for text in told].count(True) == 1, "the author is told once, in the user's words"
    ledger = ledger_of(session.proposals(), session.calls())
    assert (ledger.rejected_by_user, ledger.illegal, ledger.edited) == (1, illegal(session), 1)
    said = [words for attempt in session.story(2).attempts for words in attempt.problems]
    assert [words for words in said if words.startswith("the user rejects ") and words.endswith(f": {WORDS}")]
    assert any("the user's edit" in note for attempt in session.story(3).attempts for note in attempt.notes)
    said = [str(event) for event in events if event.kind == "approval"]
    assert f"trial 2 is rejected: {WORDS}" in said and "trial 1 is accepted" in said
    spans = [span for span in session.spans() if span.name in ("approve", "approval")]
    assert {span.status for span in spans} == {"done"}, "to wait is no failure"

    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    again = SearchSession.start(config_of(**settings, approve=True, replay=tape))
    again.run()
    assert [one.architecture for one in again.trials()] == [one.architecture for one in session.trials()]
    assert [call.answer for call in again.calls()] == [call.answer for call in session.calls()]


def illegal(session: SearchSession) -> int:
    """Answers with words of the checker's own."""
    wrong = [
        one
        for one in session.proposals()
        if one.prompt_hash and one.parsed and [word for word in one.problems if not word.startswith("the user")]
    ]
    return len([one for one in wrong if not any(word.startswith("it is the same") for word in one.problems)])


def session_draft(session: SearchSession, design: Any) -> Any:
    from tools.spaces import DesignDraft

    return DesignDraft.of(design)


def another(session: SearchSession, draft: Any) -> str:
    """The design with FFN channels moved between two layers, as JSON text; the same size, so it is legal."""
    layers = {}
    for span in draft.spans:
        for layer in range(span.first_layer, span.last_layer + 1):
            layers[layer] = span.model_dump(mode="json") | {"first_layer": layer, "last_layer": layer}
    widest = max(layers.values(), key=lambda one: one["intermediate_size"])
    least = min(layers.values(), key=lambda one: (one["intermediate_size"], -one["first_layer"]))
    if widest is least:
        least = next(one for one in layers.values() if one is not widest)
    widest["intermediate_size"] -= 8
    least["intermediate_size"] += 8
    return json.dumps({"spans": [widest, least]})


def test_a_design_waits_while_others_are_measured(
    config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI
) -> None:
    session = SearchSession.start(config_of(trials=3, self_evolution=2, parallel=2, cache=survey_cache, approve=True))
    words: dict[int, str] = {1: WORDS}
    asked = []
    for event in session.stream():
        if event.kind == "approval" and not event.decision:
            asked.append(event.trial)
            if event.trial == 3:
                # What was accepted before goes on meanwhile; its row is there before the graph takes it up.
                wait_until(lambda: len(session._records.evaluations(session.run_id)) == 2)
                assert session.trial(2).measurement is None
            if event.trial in words:
                session.decide(event.trial, "reject", words=words.pop(event.trial))
            else:
                session.decide(event.trial, "accept")
    assert asked == [1, 2, 3] and not words
    done = {trial.number: trial.measurement is not None for trial in session.trials()}
    assert done == {0: True, 1: False, 2: True, 3: True}


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_wall_clock_stands_still_while_the_user_is_asked(config_of: ConfigOf) -> None:
    session = SearchSession.start(config_of())
    time = [100.0]
    with Records.open(session.config.home / "records.sqlite") as records:
        spending = Spending(session.run_id, records, BudgetCaps(wall_clock_seconds=50), {}, clock=lambda: time[0])
        time[0] += 10
        with spending.paused():
            time[0] += 1000
            spending.keep()
            assert records.run(session.run_id).wall_clock_seconds == spending.wall_clock_seconds == 10
        time[0] += 5
        assert spending.wall_clock_seconds == 15 and spending.seconds_left() == 35
