"""Whole tiny searches under each cap of the budget, against a real HTTP endpoint; and how they go on with more."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI, Reply
from tools.errors import InputError
from tools.requests import Survey

ConfigOf = Callable[..., SearchConfig]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        yield server


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """A thousand dollars for a million tokens read, two for those written."""
    path = tmp_path / "prices.yaml"
    path.write_text("prices: [{model: fake, input: 1000, output: 2000}]")
    return path


def tokens(session: SearchSession) -> int:
    return sum(call.input_tokens + call.output_tokens for call in session.calls())


def ended_by(session: SearchSession, cap: str) -> bool:
    record = session.record
    assert record.status == "finished" and record.result is not None, record.message
    assert (session.folder.export / "model.safetensors").is_file(), "the best model is exported as usual"
    return record.result["budget_reached"] == cap and record.message.startswith(f"budget.{cap}: ")


def test_without_caps_everything_is_counted_and_nothing_is_refused(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    session = SearchSession.start(config_of(trials=3, self_evolution=1))
    events = [event for event in session.stream() if event.kind == "budget"]
    spent = session.spent()
    assert (
        spent.llm_tokens == tokens(session) > 0 and spent.usd is None and spent.unpriced_calls == len(session.calls())
    )
    paid = [trial.measurement.seconds for trial in session.trials() if trial.measurement is not None]
    assert spent.evaluation_seconds == pytest.approx(sum(paid)) and spent.wall_clock_seconds > sum(paid)
    assert events[-1].trials_done == 3 and events[-1].spent.llm_tokens == spent.llm_tokens
    assert "cost not known" in str(events[-1])
    assert session.record.result is not None and session.record.result["budget_reached"] is None


@pytest.mark.parametrize("cap", [1, 4_500, 6_000])
def test_tokens(config_of: ConfigOf, endpoint: FakeOpenAI, cap: int) -> None:
    session = SearchSession.start(config_of(max_tokens=400, budget={"llm_tokens": cap}))
    session.run()
    assert ended_by(session, "llm_tokens") and tokens(session) <= cap
    assert len(endpoint.requests) == len(session.calls()), "a call that does not fit is not made"
    assert len(session.trials()) < 5 and (len(endpoint.requests) > 0) == (cap > 1)


def test_a_server_that_uses_up_all_that_it_may(config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """One token for each byte, and answers as long as allowed: what the bounds are made for."""

    def answer(body: dict[str, Any]) -> Reply:
        read = sum(len(message["content"].encode()) for message in body["messages"]) + len(str(body["response_format"]))
        return Reply("{}", input_tokens=read, output_tokens=body["max_completion_tokens"])

    with FakeOpenAI(script=answer, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(max_tokens=300, patience=9, budget={"llm_tokens": 60_000}))
        session.run()
        assert ended_by(session, "llm_tokens")
        assert 45_000 < tokens(session) <= 60_000 and len(server.requests) == len(session.calls()) > 5


def test_a_server_that_counts_nothing_is_charged_the_most(config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenAI(script=lambda _: Reply("{}", input_tokens=0, output_tokens=0), models=["fake"]) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(max_tokens=300, patience=9, budget={"llm_tokens": 30_000}))
        session.run()
        assert ended_by(session, "llm_tokens") and 0 < tokens(session) <= 30_000 and server.requests


def test_money(config_of: ConfigOf, endpoint: FakeOpenAI, prices: Path) -> None:
    session = SearchSession.start(config_of(max_tokens=400, prices=prices, budget={"usd": 5.0}))
    session.run()
    assert ended_by(session, "usd")
    cost = sum(call.input_tokens * 1e-3 + call.output_tokens * 2e-3 for call in session.calls())
    assert session.spent().usd == pytest.approx(cost) and 0 < cost <= 5.0 and len(session.trials()) < 5


def test_money_without_a_price(config_of: ConfigOf, endpoint: FakeOpenAI, tmp_path: Path) -> None:
    session = SearchSession.start(config_of(budget={"usd": 20.0}))
    with pytest.raises(InputError, match=r"price of openai:fake here is not known.*prices=FILE"):
        session.run()
    assert not endpoint.requests and not session.trials()
    own = SearchSession.start(config_of(prices=tmp_path / "nowhere.yaml"))
    with pytest.raises(InputError, match="Cannot read the prices"):
        own.run()
    # Where nobody is asked, nothing needs a price.
    assert SearchSession.start(config_of(trials=1, budget={"usd": 20.0})).run().succeeded


def have_taken(session: SearchSession, seconds: float, only_the_first: bool = False) -> None:
    """Have the records say that each evaluation took so long: nothing hangs on how fast this machine is."""
    engine = create_engine(f"sqlite:///{session.config.home / 'records.sqlite'}")
    where = "WHEN (SELECT count(*) FROM evaluation) = 1" if only_the_first else ""
    change = f"UPDATE evaluation SET measurement = json_set(measurement, '$.seconds', {seconds}) WHERE id = NEW.id"  # noqa: S608
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TRIGGER slow AFTER INSERT ON evaluation {where} BEGIN {change}; END"))
    engine.dispose()


def test_evaluation_seconds(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    """Each recorded evaluation is made to have taken 1000 s: the third one does not fit into 2500."""
    session = SearchSession.start(config_of(budget={"evaluation_seconds": 2500}))
    have_taken(session, 1000.0)
    session.run()
    assert ended_by(session, "evaluation_seconds") and len(session.trials()) == 2
    assert session.spent().evaluation_seconds == 2000.0
    assert "an evaluation takes about 1,000 s" in session.record.message

    again = SearchSession.start(config_of(trials=1, budget={"evaluation_seconds": 1e-6}))
    again.run()
    assert again.trials()[0].cached and again.spent().evaluation_seconds == 0.0
    assert again.record.message == "all trials done", "what is in the records costs nothing"


def test_too_little_for_one_evaluation(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    session = SearchSession.start(config_of(trials=2, budget={"evaluation_seconds": 1e-6}))
    with pytest.raises(InputError, match=r"before a design was grown.*--set budget.evaluation_seconds=MORE"):
        session.run()
    assert session.record.status == "interrupted" and not endpoint.requests
    more = config_of(trials=2, budget={"evaluation_seconds": 1e6})
    resumed = SearchSession.resume(session.run_id, session.config.home, more)
    assert resumed.run().succeeded and len(resumed.trials()) == 2 and resumed.record.message == "all trials done"


def test_an_evaluation_is_cut_off_where_its_time_is_up(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    """The survey is made to say that an evaluation takes no time at all; a subprocess cannot even start in that."""
    session = SearchSession.start(config_of(trials=1, workers="processes", budget={"evaluation_seconds": 1e-6}))
    with pytest.raises(InputError, match="before a design was grown"):
        session.run()
    survey = Survey.model_validate_json(session.folder.survey.read_text())
    measurement = survey.measurement.model_copy(update={"seconds": 1e-6})
    session.folder.survey.write_text(survey.model_copy(update={"measurement": measurement}).model_dump_json())
    little = config_of(trials=1, workers="processes", budget={"evaluation_seconds": 0.25})
    cut_off = SearchSession.resume(session.run_id, session.config.home, little)
    with pytest.raises(InputError, match="before a design was grown"):
        cut_off.run()
    assert cut_off.spent().evaluation_seconds >= 0.25, "it is paid for"
    assert [trial.measurement for trial in cut_off.trials()] == [None], "it says nothing of the design"
    resumed = SearchSession.resume(session.run_id, session.config.home, config_of(trials=1))
    assert resumed.run().succeeded and resumed.spent().evaluation_seconds > 0.25


def test_evaluations_side_by_side(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    session = SearchSession.start(
        config_of(trials=6, self_evolution=3, parallel=3, budget={"evaluation_seconds": 3500})
    )
    have_taken(session, 1000.0, only_the_first=True)
    session.run()
    # Trial 0 took 1000 s; the next three are expected to, and 2500 are left: two side by side, then the third, since
    # the real ones were short.
    assert len(session.trials()) >= 4 and all(trial.measurement is not None for trial in session.trials())
    assert session.spent().evaluation_seconds <= 3500


def test_wall_clock(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    """Trial 0 says that it took most of an hour, which is not left any more."""
    session = SearchSession.start(config_of(budget={"wall_clock_seconds": 3000}))
    have_taken(session, 3000.0)
    session.run()
    assert ended_by(session, "wall_clock_seconds") and len(session.trials()) == 1 and not endpoint.requests
    assert 0 < session.record.wall_clock_seconds < 3000


def test_a_question_is_given_up_where_the_time_is_up(config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = lambda _: Reply("{}", delay_seconds=60.0)  # noqa: E731
    config = config_of(trials=1)
    SearchSession.start(config).run()
    with FakeOpenAI(script=slow, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(trials=2, budget={"wall_clock_seconds": 8}))
        session.run()
    assert ended_by(session, "wall_clock_seconds")
    (call,) = session.calls()
    assert call.error is not None and call.error.startswith("cut off") and call.output_tokens == 512
    before = session.spent()
    with FakeOpenAI(seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        more = config_of(trials=2, budget={"wall_clock_seconds": 3000})
        resumed = SearchSession.resume(session.run_id, session.config.home, more)
        resumed.run()
        assert len(server.requests) == len(resumed.calls()) - 1, "the same question is asked again"
    assert resumed.spent().wall_clock_seconds > before.wall_clock_seconds >= 8
    assert resumed.spent().llm_tokens > before.llm_tokens, "what was given up stays counted"


def test_a_survey_that_takes_too_long(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    session = SearchSession.start(config_of(budget={"wall_clock_seconds": 1e-3}))
    with pytest.raises(InputError, match="too little for the survey"):
        session.run()
    more = config_of(budget={})
    assert SearchSession.resume(session.run_id, session.config.home, more).run().succeeded


def test_more_budget_goes_on_where_it_ended(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    session = SearchSession.start(config_of(max_tokens=400, budget={"llm_tokens": 5_000}))
    session.run()
    done, used = len(session.trials()), tokens(session)
    assert ended_by(session, "llm_tokens") and done < 5
    home = session.config.home
    assert not list(SearchSession.resume(session.run_id, home).stream()), "without more it stays finished"
    asked = len(endpoint.requests)
    same = SearchSession.resume(session.run_id, home, config_of(max_tokens=400, budget={"llm_tokens": 5_001}))
    same.run()
    assert ended_by(same, "llm_tokens") and len(endpoint.requests) == asked and len(same.trials()) == done

    more = SearchSession.resume(session.run_id, home, config_of(max_tokens=400, budget={"llm_tokens": 10**6}))
    more.run()
    assert len(more.trials()) == 5 and more.record.message == "all trials done" and tokens(more) > used
    assert more.record.config["budget"]["llm_tokens"] == 10**6
    assert more.trials()[:done] == session.trials()[:done]
    with pytest.raises(InputError, match="trials: 5 -> 9"):
        SearchSession.resume(session.run_id, home, config_of(max_tokens=400, trials=9))
    with pytest.raises(InputError, match="home: "):
        SearchSession.resume(session.run_id, home, config_of(max_tokens=400, home=home / "elsewhere"))


def test_an_illegal_design_is_projected_where_no_repair_can_be_paid(
    config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was answered and paid is not thrown away."""
    whole = {"first_layer": 0, "last_layer": 2, "num_key_value_heads": 4, "intermediate_size": 96}
    large = {"strategies_applied": ["keep it as wide as it was"], "hidden_size": 64, "spans": [whole]}
    counts = iter([100, 8_000])

    def answer(body: dict[str, Any]) -> Any:
        import json

        text = json.dumps(large) if "spans" in str(body["response_format"]) else None
        strategies = json.dumps({"strategies": ["keep the early layers as they are"]})
        return Reply(text or strategies, input_tokens=next(counts), output_tokens=10)

    with FakeOpenAI(script=answer, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        config = config_of(trials=3, self_evolution=2, repairs=2, max_tokens=400, budget={"llm_tokens": 8500})
        session = SearchSession.start(config)
        session.run()
        assert len(server.requests) == 2
    assert ended_by(session, "llm_tokens")
    assert [proposal.outcome for proposal in session.proposals()] == ["valid", "projected"]
    assert len(session.trials()) == 2 and session.trial(1).succeeded
