"""Several designs are asked for in a turn, and the one of which most is expected is paid for."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.surrogate import FEWEST_RECORDS, Expectation
from graph.config import SearchConfig
from graph.context import SearchContext
from graph.screening import choose, expectation_in_words, ranked
from graph.session import SearchSession
from memory.ledger import ledger_of
from memory.records import Records
from memory.tables import Proposal, Run
from tests.fake_openai import FakeOpenAI, Status
from tests.graph.test_replay import lines_of, story
from tests.memory.conftest import make_design
from tools.errors import InputError

ConfigOf = Callable[..., SearchConfig]
USED = ("valid", "repaired", "projected")


@pytest.fixture
def config_of(config_of: ConfigOf, survey_cache: Path) -> ConfigOf:
    return partial(config_of, cache=survey_cache, proposals_per_turn=3)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        yield server


def last_of(session: SearchSession) -> dict[int, list[Proposal]]:
    """By turn, the last proposal for each of its designs."""
    last = {(one.turn, one.candidate): one for one in session.proposals()}
    turns: dict[int, list[Proposal]] = {}
    for (turn, _), proposal in sorted(last.items()):
        turns.setdefault(turn, []).append(proposal)
    return turns


def assert_screened(session: SearchSession, candidates: int) -> None:
    """Each turn has one trial, and no design of which less was expected."""
    trials = {trial.proposal_id: trial for trial in session.trials()}
    for turn, proposals in last_of(session).items():
        legal = [one for one in proposals if one.outcome in (*USED, "screened")]
        paid = [one for one in legal if one.id in trials]
        assert len(proposals) == (candidates if turn else 1) and len(paid) == 1
        assert [one.outcome in USED for one in legal] == [one is paid[0] for one in legal]
        learnt = turn >= FEWEST_RECORDS
        assert all((one.expected_score is not None) == learnt and one.forecast is not None for one in legal)
        if learnt:
            assert paid[0].expected_score == min(one.expected_score or 99.0 for one in legal)
            assert all(one.expected_deviation and one.expected_deviation > 0 for one in legal)
        else:
            assert paid[0].forecast == min(one.forecast or 99.0 for one in legal)
        view = trials[paid[0].id]
        assert (view.forecast, view.expected_score) == (paid[0].forecast, paid[0].expected_score)


def test_agents_are_asked_for_several_designs_and_the_best_is_paid_for(
    config_of: ConfigOf, endpoint: FakeOpenAI
) -> None:
    session = SearchSession.start(config_of(trials=7, self_evolution=3))
    events = list(session.stream())
    assert len(session.trials()) == 7
    assert_screened(session, 3)
    screened = [one for one in session.proposals() if one.outcome == "screened"]
    assert screened
    ledger = ledger_of(session.proposals(), session.calls())
    assert ledger.screened == len(screened) and ledger.turns == 6
    assert ledger.valid + ledger.repaired + ledger.projected == 6
    told = [event for event in events if event.kind == "proposal" and event.outcome == "screened"]
    assert len(told) == len(screened)
    assert any("; expected loss " in str(event) and " +- " in str(event) for event in told)

    # The first question is the same for all designs of a turn: asked anew, under another seed.
    calls = [call for call in session.calls() if call.turn == 1 and call.schema_name == "StrategiesAnswer"]
    assert [call.candidate for call in calls] == [0, 1, 2] and len({str(call.messages) for call in calls}) == 1
    assert len(session.calls()) == len(endpoint.requests)
    seeds = [request.body["seed"] for request in endpoint.requests if len(request.body["messages"]) == 2]
    assert len(set(seeds)) == len(seeds)


def test_judges_go_through_the_same_screening(config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    session = SearchSession.start(config_of(trials=6, llm_share=0, parallel=2))
    session.run()
    assert {trial.stage for trial in session.trials()} == {"greedy", "judge"}
    assert all(len(proposals) == 3 for turn, proposals in last_of(session).items() if turn)
    assert len({trial.architecture.hash for trial in session.trials()}) == len(session.trials()) == 6
    ledger = ledger_of(session.proposals(), [])
    assert ledger.screened == 2 * 5 and ledger.judged == 5 and ledger.raw == 0


def test_what_a_stopped_search_had_asked_is_not_asked_again(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    whole = SearchSession.start(config_of(trials=3, self_evolution=2))
    whole.run()
    recorded = [request.answered for request in endpoint.requests]
    stop = next(place for place, call in enumerate(whole.calls()) if (call.turn, call.candidate) == (1, 2))
    # In a home of its own the same answers come again; the endpoint fails before the last design of turn 1.
    answers = iter([*recorded[:stop], Status(400), *recorded[stop:]])
    with pytest.MonkeyPatch.context() as patch, FakeOpenAI(lambda _: next(answers), models=("fake",)) as server:
        server.set_environment(patch)
        home = whole.config.home.parent / "other"
        stopped = SearchSession.start(config_of(trials=3, self_evolution=2, home=home))
        with pytest.raises(InputError):
            stopped.run()
        assert {one.candidate for one in stopped.proposals() if one.turn == 1} == {0, 1}
        assert len(stopped.trials()) == 1, "no design is paid for before all of its turn are there"
        again = SearchSession.resume(stopped.run_id, home)
        again.run()
        assert len(server.requests) == len(recorded) + 1
    assert [one.model_dump(include=_KEPT) for one in again.proposals()] == [
        one.model_dump(include=_KEPT) for one in whole.proposals()
    ]


_KEPT = {"turn", "attempt", "candidate", "outcome", "architecture", "raw", "forecast", "expected_score"}


@pytest.mark.slow
def test_a_search_that_screens_is_replayed_also_where_nobody_searched_before(
    config_of: ConfigOf, endpoint: FakeOpenAI, tmp_path: Path
) -> None:
    tapes = [tmp_path / name for name in ("earlier.jsonl", "tape.jsonl")]
    SearchSession.start(config_of(trials=3, proposals_per_turn=1, seed=5, record=tapes[0])).run()
    assert not any("candidate" in line for line in lines_of(tapes[0])), "one design of a turn is not counted"
    assert {line["kind"] for line in lines_of(tapes[0])} == {"search", "memory", "call"}
    recorded = SearchSession.start(config_of(trials=3, record=tapes[1]))
    recorded.run()
    expected = [trial.expected_score for trial in recorded.trials()]
    assert expected[0] is None and None not in expected[1:], "the earlier run had three trials, this one adds its own"
    again = SearchSession.start(config_of(trials=3, home=tmp_path / "new", replay=tapes[1]))
    again.run()
    assert story(again) == story(recorded)

    lines = [line for line in lines_of(tapes[1]) if line["kind"] != "earlier"]
    tapes[1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match="does not say what earlier runs had measured"):
        SearchSession.start(config_of(trials=3, replay=tapes[1])).run()


@pytest.fixture(scope="module")
def records() -> Iterator[Records]:
    with Records.open("sqlite://") as opened:
        yield opened


_numbers = st.integers(-3, 3).map(float)
_designs = st.lists(st.tuples(_numbers, _numbers, st.booleans()), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(designs=_designs, knows=st.booleans())
def test_the_lowest_expected_loss_is_paid_for(
    records: Records, designs: list[tuple[float, float, bool]], knows: bool
) -> None:
    """Of designs that no other turn took meanwhile; of equal ones that of lowest forecast, then the first."""
    run = f"run {len(records.runs())}"
    records.create_run(Run(id=run))
    context = cast(SearchContext, _Records(records, run))
    plain = {"run_id": run, "stage": "judge", "proposer": "random", "outcome": "valid"}
    for place, (score, forecast, taken) in enumerate(designs):
        architecture = make_design(hidden=8 * (place + 1))
        if taken:
            other = records.add_proposal(Proposal(turn=0, candidate=place, **plain))
            records.add_trial(other.id, architecture)
        records.add_proposal(
            Proposal(
                turn=1,
                candidate=place,
                architecture=architecture.model_dump(mode="json"),
                forecast=forecast,
                expected_score=score if knows else None,
                expected_deviation=0.1 if knows else None,
                **plain,
            )
        )
    legal, number = choose(context, 1)
    free = [(score if knows else 0.0, forecast, place) for place, (score, forecast, taken) in enumerate(designs)]
    free = [one for one, design in zip(free, designs, strict=True) if not design[2]]
    paid = [one.candidate for one in legal if one.outcome == "valid"]
    assert paid == ([min(free)[2]] if free else [])
    assert {one.outcome for one in legal} - {"valid"} <= ({"screened"} if free else {"rejected"})
    if number is not None:
        assert records.trial(run, number).architecture == make_design(hidden=8 * (paid[0] + 1))
        assert choose(context, 1)[1] == number, "what was chosen stays chosen"
        assert len(records.trials(run)) == 1 + sum(design[2] for design in designs)


class _Records:
    """As much of a search's context as the choice needs."""

    def __init__(self, records: Records, run_id: str) -> None:
        self.records, self.run_id = records, run_id


def test_the_ranking_and_its_words() -> None:
    assert ranked([Expectation(1.0), Expectation(0.5), Expectation(0.5)]) == [1, 2, 0]
    assert ranked([Expectation(1.0, 2.0, 0.1), Expectation(9.0, 1.0, 5.0)]) == [1, 0]
    assert ranked([Expectation(), Expectation()]) == [0, 1]
    assert expectation_in_words(Expectation(1.0), "loss") == ""
    assert expectation_in_words(Expectation(1.0, 2.0, 0.1), "loss") == "expected loss 2.0000 +- 0.1000"
    assert expectation_in_words(Expectation(1.0, -0.5, 0.1), "accuracy") == "expected accuracy 0.500 +- 0.100"
