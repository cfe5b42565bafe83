"""Searches in which a judge has turns: all of them without any chat model, or its share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agents.proposers import JUDGES
from graph.config import SearchConfig
from graph.session import SearchSession
from penjing.documents import show_document
from penjing.tables import verdict
from tests.fake_openai import FakeOpenAI

ConfigOf = Callable[..., SearchConfig]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        yield server


@pytest.mark.parametrize("name", JUDGES)
def test_a_search_of_a_judge_alone_needs_no_chat_model(
    config_of: ConfigOf, survey_cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = config_of(trials=4, llm_share=0, judge=name, budget={"usd": 1}, cache=survey_cache)
    session = SearchSession.start(config)
    events = list(session.stream())
    trials = session.trials()
    assert [trial.stage for trial in trials] == ["greedy", "judge", "judge", "judge"]
    assert {trial.proposer for trial in trials[1:]} == {name} and all(trial.succeeded for trial in trials)
    assert not session.calls() and not [event for event in events if event.kind == "handover"]
    assert session.spent().usd == 0
    document = show_document(session)
    said = verdict(document["result"]["table"], session.config.asks_agents)
    assert "agents" not in said and "saliency-greedy" in said


def test_half_of_the_turns(config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI) -> None:
    session = SearchSession.start(
        config_of(trials=6, self_evolution=3, llm_share=0.5, judge="local", cache=survey_cache)
    )
    events = list(session.stream())
    stages = [trial.stage for trial in session.trials()]
    assert stages == ["greedy", "judge", "self_evolution", "judge", "knowledge_distillation", "judge"]
    assert {call.turn for call in session.calls()} == {2, 4}
    assert not [event for event in events if event.kind == "handover"], "nobody took over from anybody"
    told = [event.stage for event in events if event.kind == "stage"][1:-1]
    repaired = [proposal.attempt > 0 for proposal in session.proposals()]
    assert told == [proposal.stage for proposal in session.proposals()] and any(repaired)
    assert session.config.turns == {"self_evolution": 1, "knowledge_distillation": 1, "judge": 3}


def test_designs_at_the_same_time_are_of_both_sides(
    config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI
) -> None:
    session = SearchSession.start(config_of(trials=5, llm_share=0.5, parallel=2, self_evolution=4, cache=survey_cache))
    session.run()
    stages = {proposal.turn: proposal.stage for proposal in session.proposals()}
    assert stages == {0: "greedy"} | {turn: "self_evolution" if turn % 2 == 0 else "judge" for turn in range(1, 5)}
    assert {call.turn for call in session.calls()} == {2, 4}


@given(share=st.decimals(0, 1, places=3), turns=st.integers(1, 200))
def test_turns_are_spread_evenly(share: float, turns: int) -> None:
    config = SearchConfig(llm_share=float(share))
    taken = [config.is_agents_turn(turn) for turn in range(1, turns + 1)]
    assert [sum(taken[:count]) for count in range(turns + 1)] == [int(count * share) for count in range(turns + 1)]


def test_the_searchers_seed_alone_may_vary(config_of: ConfigOf, survey_cache: Path) -> None:
    designs = []
    for seed in (0, 1):
        session = SearchSession.start(config_of(trials=3, llm_share=0, search_seed=seed, cache=survey_cache))
        session.run()
        designs.append([trial.architecture.hash for trial in session.trials()])
        assert session.trials()[0].cached == (seed == 1), "the same training and measuring"
    assert designs[0][0] == designs[1][0] and designs[0][1:] != designs[1][1:]


def test_no_such_judge() -> None:
    with pytest.raises(ValidationError, match=r"there is no judge 'locale', only random, .*; did you mean 'local'\?"):
        SearchConfig(judge="locale")
    described = SearchConfig.model_fields["judge"].description or ""
    assert all(name in described for name in JUDGES)
