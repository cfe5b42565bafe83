"""Tools in the agents' hands, over a real HTTP server: good calls, and all that a bad model makes of them."""

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from graph.config import SearchConfig
from graph.dry_run import dry_run
from graph.events import AnyEvent
from graph.session import SearchSession
from memory.ledger import ledger_of
from penjing.documents import ledger_document
from penjing.tables import ledger_lines
from tests.fake_openai import Calls, FakeOpenAI, Item, Status
from tests.graph.test_replay import story
from tools.errors import InputError

ConfigOf = Callable[..., SearchConfig]
TOOLS = ["architecture_cost", "forecast_loss", "nearest_designs", "sensitivity", "train_and_evaluate"]


@pytest.fixture
def config_of(config_of: ConfigOf, survey_cache: Path) -> ConfigOf:
    return partial(config_of, cache=survey_cache, recall=0, tool_calls=4, repairs=0)


class CallingLLM:
    """Calls tools as scripted, one item for each question that offers them; else answers legally at random."""

    def __init__(self, *items: Item | None) -> None:
        self.items = iter(items)

    def __call__(self, body: dict[str, Any]) -> Item | None:
        return next(self.items, None) if body.get("tools") else None


def calls(*pairs: tuple[str, object]) -> Calls:
    return Calls(tuple((name, value if isinstance(value, str) else json.dumps(value)) for name, value in pairs))


def draft(hidden: int, ffn: int = 24, heads: int = 4) -> dict[str, Any]:
    span = {"first_layer": 0, "last_layer": 2, "num_key_value_heads": heads, "intermediate_size": ffn}
    return {"hidden_size": hidden, "spans": [span]}


@pytest.fixture
def search(config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    servers: list[FakeOpenAI] = []

    def run(llm: CallingLLM, **settings: Any) -> tuple[SearchSession, list[AnyEvent], FakeOpenAI]:
        server = FakeOpenAI(llm, seed=3, models=("fake",))
        servers.append(server)
        server.__enter__()
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(**settings))
        return session, list(session.stream()), server

    yield run
    for server in servers:
        server.close()


def results_in(body: dict[str, Any]) -> list[str]:
    return [message["content"] for message in body["messages"] if message["role"] == "tool"]


def test_what_the_tools_say(search: Callable[..., Any]) -> None:
    llm = CallingLLM(
        calls(("architecture_cost", draft(64, 96)), ("architecture_cost", draft(63)), ("forecast_loss", draft(56))),
        calls(("nearest_designs", draft(56)), ("sensitivity", {})),
    )
    session, _, server = search(llm, trials=2, tool_calls=5)
    offered = [request.body for request in server.requests if request.body.get("tools")]
    assert [tool["function"]["name"] for tool in offered[0]["tools"]] == TOOLS
    assert "response_format" not in offered[0] and "at most 5 calls" in offered[0]["messages"][-1]["content"]

    last = server.requests[-1].body
    assert "tools" not in last and last["response_format"]["json_schema"]["name"] == "DesignAnswer"
    cost, illegal, forecast, nearest, sensitivity = results_in(last)
    assert "parameters, " in cost and " bytes of key/value cache per token" in cost and "Not legal: it has " in cost
    assert illegal.startswith("Not legal: hidden_size 63 is not allowed")
    assert forecast.startswith("saliency cut ") and "too few designs were measured" in forecast
    greedy = session.trial(0)
    assert nearest.startswith(f"trial 0: {greedy.architecture.describe()}; ") and f"loss {greedy.loss:.4f}" in nearest
    assert sensitivity.splitlines()[0].startswith("layers 0-0: attention ") and len(sensitivity.splitlines()) == 3
    # The results follow their calls under the same ids, none of which comes twice.
    asked = [call["id"] for message in last["messages"] for call in message.get("tool_calls") or []]
    answered = [message["tool_call_id"] for message in last["messages"] if message["role"] == "tool"]
    assert asked == answered and len(set(asked)) == 5
    assert last["messages"][-1]["content"].startswith("No calls left: answer now.")

    ledger = ledger_of(session.proposals(), session.calls())
    assert ledger.tool_calls == 5 and ledger.faults == {} and ledger.raw == ledger.turns == 1
    assert "calls of tools by the agents: 5" in ledger_lines(ledger_document(ledger))
    assert len(session.calls()) == len(server.requests) == 4


def test_a_trial_by_a_tool_is_a_trial(search: Callable[..., Any], config_of: ConfigOf) -> None:
    wanted = draft(48, 48, 3)
    llm = CallingLLM(
        calls(("train_and_evaluate", draft(64, 96))),
        calls(("train_and_evaluate", wanted)),
        calls(("train_and_evaluate", wanted), ("train_and_evaluate", draft(56, 24, 3))),
    )
    session, events, server = search(llm, trials=3)
    trials = session.trials()
    assert [trial.stage for trial in trials] == ["greedy", "tool", "self_evolution"], "the last one was for the answer"
    assert trials[1].proposer == "evolver_tool" and trials[1].succeeded and trials[1].forecast is not None
    assert [event.trial for event in events if event.kind == "evaluation"] == [0, 1, 1, 2]
    too_large, done, again, refused = results_in(server.requests[-1].body)
    assert too_large.startswith("Not trained: it has ") and done == again
    assert done.startswith(f"trial 1: {trials[1].architecture.describe()}; ")
    assert refused == "Not trained: no trial is left beside those for your own answers."
    assert session.record.status == "finished"


def test_what_bad_models_make_of_tools_is_counted_and_the_search_goes_on(search: Callable[..., Any]) -> None:
    good = ("sensitivity", {})
    llm = CallingLLM(
        # An endless loop, with more calls at once than there are left.
        calls(good),
        calls(good, good),
        calls(good, good, good),
        # Names and arguments that there are not; the call is over after one of each.
        calls(("rm_rf", {}), ("forecast_loss", "{not json"), ("forecast_loss", {"hidden_size": "64"}), ("", "[]")),
        # Prose instead of a call or an answer.
        "I would rather call nobody.",
        None,
    )
    session, _, server = search(llm, trials=4, self_evolution=3)
    assert session.record.status == "finished" and len(session.trials()) == 4
    ledger = ledger_of(session.proposals(), session.calls())
    assert ledger.tool_calls == 6 + 4
    assert ledger.faults == {"too many tool calls": 2, "unknown tool": 2, "bad tool arguments": 2}
    finals = [r.body for r in server.requests if "response_format" in r.body and len(r.body["messages"]) > 4]
    loop, bad, *rest = (results_in(body) for body in finals)
    assert loop[-2:] == ["No calls left: answer now."] * 2 and not loop[3].startswith("No calls")
    assert bad[0] == f"There is no such tool; the tools are: {', '.join(TOOLS)}."
    # What is no JSON object comes last: the client library sorts it out.
    assert bad[1].startswith("The arguments do not fit: hidden_size: ")
    assert any(words.startswith("The arguments do not fit: Invalid JSON") for words in bad)
    assert rest and not any(rest)
    assert finals[2]["messages"][-2] == {"role": "assistant", "content": "I would rather call nobody."}


def test_an_answer_instead_of_a_call_is_the_answer(search: Callable[..., Any]) -> None:
    answer = {"strategies_applied": ["Keep it as it is."], **draft(48, 48, 3)}
    session, _, server = search(CallingLLM(answer), trials=2)
    assert len(server.requests) == 2 and session.proposals()[-1].parsed == answer
    assert ledger_of(session.proposals(), session.calls()).tool_calls == 0


def test_no_tools_where_the_model_cannot_call_them(search: Callable[..., Any], config_of: ConfigOf) -> None:
    _, _, server = search(CallingLLM(), trials=2, tool_calls=0)
    assert not any("tools" in request.body for request in server.requests)
    agents = {"distiller": {"chat_model": "local"}}
    config = config_of(agents=agents)
    assert (config.calls_of("evolver"), config.calls_of("distiller")) == (4, 0)


def test_the_estimate_counts_calls_of_tools(search: Callable[..., Any], config_of: ConfigOf) -> None:
    script = [calls(("sensitivity", {})), calls(("sensitivity", {})), calls(("sensitivity", {}))]
    session, _, _ = search(CallingLLM(*script), trials=2, self_evolution=1, tool_calls=3)
    estimates = [
        asyncio.run(dry_run(config_of(trials=2, self_evolution=1, tool_calls=count, proposals_per_turn=designs)))
        for count, designs in ((0, 1), (3, 1), (3, 2))
    ]
    most = [found["agents"]["calls"]["most"] for found in estimates]
    assert most == [2, 5, 10] and len(session.calls()) == 5
    tokens = [found["agents"]["tokens"] for found in estimates]
    assert session.spent().llm_tokens <= tokens[1]["most"] and tokens[2]["most"] == 2 * tokens[1]["most"]
    assert tokens[0]["likely"] < tokens[1]["likely"] < tokens[1]["most"]


@pytest.mark.slow
def test_interrupted_and_replayed(
    search: Callable[..., Any], config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (calls(("train_and_evaluate", draft(48, 48, 3))), calls(("forecast_loss", draft(56, 24, 3))))
    tape = tmp_path / "tape.jsonl"
    session, _, _ = search(CallingLLM(*script), trials=4, record=tape)
    assert session.trial(1).stage == "tool"
    again = SearchSession.start(config_of(trials=4, home=tmp_path / "new", replay=tape))
    again.run()
    assert story(again) == story(session)

    # The endpoint fails after the tool has trained its design: that is not paid for, and not asked for, again.
    failing = CallingLLM(script[0], Status(400), script[1])
    home = tmp_path / "stopped"
    with FakeOpenAI(failing, seed=3, models=("fake",)) as other:
        other.set_environment(monkeypatch)
        stopped = SearchSession.start(config_of(trials=4, home=home))
        with pytest.raises(InputError):
            stopped.run()
        assert [trial.stage for trial in stopped.trials()] == ["greedy", "tool"]
        before = len(other.requests)
        resumed = SearchSession.resume(stopped.run_id, home)
        resumed.run()
        stages = [trial.stage for trial in resumed.trials()]
        assert stages.count("tool") == 1 and len(stages) == 4
        first = [json.dumps(request.body) for request in other.requests[: before - 1]]
        assert not any(json.dumps(request.body) in first for request in other.requests[before:])
