"""Whole tiny searches under limits: on the file, on memory, on the measured time; and limits that cannot be met."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from graph.config import SearchConfig
from graph.session import SearchSession
from graph.space import make_space
from tests.fake_openai import FakeOpenAI
from tools.architecture import Architecture
from tools.costs import file_mb, memory_mb
from tools.errors import InputError
from tools.families import architecture_from_config
from tools.pruning.saliency import Saliency
from tools.requests import Survey

ConfigOf = Callable[..., SearchConfig]
SECONDS = 1000.0


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        yield server


@pytest.fixture
def source(sources: dict[str, Path]) -> Architecture:
    """The design of the source of the tiny searches."""
    return architecture_from_config(json.loads((sources["llama-tied"] / "config.json").read_text()))


def texts(server: FakeOpenAI) -> list[str]:
    """Everything that the agents were told."""
    return [message["content"] for request in server.requests for message in request.body["messages"]]


def test_a_search_for_a_file(config_of: ConfigOf, endpoint: FakeOpenAI, source: Architecture, tmp_path: Path) -> None:
    limit = round(0.75 * file_mb(source, "q8_0"), 4)
    session = SearchSession.start(config_of(max_parameters=None, max_file_mb=limit, file_format="q8_0", repairs=2))
    events = list(session.stream())
    trials = session.trials()
    assert len(trials) == 5 and all(trial.file_mb <= limit for trial in trials)
    greedy = trials[0].architecture.parameters
    assert all(0.5 * greedy <= trial.architecture.parameters for trial in trials)
    assert any(f"as gguf q8_0 must not exceed {limit:g} MB" in str(event) for event in events if event.kind == "survey")
    told = texts(endpoint)
    assert f"The weights file as gguf q8_0 must not exceed {limit:g} MB" in told[0]
    assert any("above max_file_mb" in text or f"file {trials[0].file_mb:.3g} MB" in text for text in told)
    report = session.export(session.best(), tmp_path / "out", format="gguf")
    assert report.bytes > 1e6 * file_mb(session.best().architecture, "f16"), "header and tokenizer come on top"


def test_a_search_for_memory_with_a_long_context(
    config_of: ConfigOf, endpoint: FakeOpenAI, source: Architecture
) -> None:
    limit = round(0.6 * memory_mb(source, "f16", 4000), 4)
    session = SearchSession.start(config_of(max_parameters=None, max_memory_mb=limit, memory_context=4000))
    session.run()
    trials = session.trials()
    assert len(trials) == 5 and all(trial.memory_mb <= limit for trial in trials)
    assert sum(layer.num_key_value_heads for layer in trials[0].architecture.layers) < 12, "the cache is most of it"


def test_a_design_that_is_too_large_goes_back_with_the_excess(
    config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch, source: Architecture
) -> None:
    whole = {"first_layer": 0, "last_layer": 2, "num_key_value_heads": 4, "intermediate_size": 96}
    large = {"strategies_applied": ["keep it as wide as it was"], "hidden_size": 64, "spans": [whole]}
    limit = 0.1
    words = f"{file_mb(source, 'f16'):.2f} MB as f16, {file_mb(source, 'f16') - limit:.2f} above max_file_mb 0.1;"

    def answer(body: dict[str, Any]) -> Any:
        return large if "spans" in str(body["response_format"]) else None

    with FakeOpenAI(script=answer, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(
            config_of(trials=2, self_evolution=1, max_parameters=None, max_file_mb=limit, min_parameters=1000)
        )
        session.run()
    problems = [problem for proposal in session.proposals() for problem in proposal.problems]
    assert any(words in problem for problem in problems)
    assert any(words in message for message in texts(server)), "the author was told"
    assert session.proposals()[-1].outcome == "projected" and session.trial(1).file_mb <= limit


def smallest(source: Architecture) -> Architecture:
    layer = source.layers[0]
    shape = layer.model_copy(update={"num_key_value_heads": 1, "num_attention_heads": 2, "intermediate_size": 8})
    assert layer.num_attention_heads == 2 * layer.num_key_value_heads
    return Architecture(fixed=source.fixed, hidden_size=8, layers=(shape,) * len(source.layers))


@pytest.mark.parametrize("name", ["max_file_mb", "max_memory_mb"])
def test_a_limit_that_no_design_can_meet_names_the_smallest_value(
    config_of: ConfigOf, endpoint: FakeOpenAI, source: Architecture, name: str
) -> None:
    least = smallest(source)
    value = file_mb(least, "f16") if name == "max_file_mb" else memory_mb(least, "f16", 2048)
    session = SearchSession.start(config_of(max_parameters=None, **{name: 0.5 * value}))
    with pytest.raises(InputError, match=f"smallest legal design takes {value:.2f}.* above {name} .*: raise {name}"):
        session.run()
    assert not session.trials() and not endpoint.requests


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"max_file_mb": 1000.0}, "nothing would be cut"),
        ({"max_memory_mb": 1000.0}, "nothing would be cut"),
        ({"max_file_mb": 0.1, "min_parameters": 60_000}, "less than min_parameters 60,000"),
        ({"max_file_mb": 1000.0, "max_parameters": 500}, "500: raise max_parameters"),
    ],
)
def test_limits_that_say_nothing_or_contradict(
    config_of: ConfigOf, endpoint: FakeOpenAI, overrides: dict[str, Any], words: str
) -> None:
    session = SearchSession.start(config_of(**{"max_parameters": None, **overrides}))
    with pytest.raises(InputError, match=words) as caught:
        session.run()
    assert "\n" not in str(caught.value) and not session.trials()


def rewrite(session: SearchSession, slow: int, worst: int | None = None) -> None:
    """Write into the recorded evaluations that trial `slow` took 2000 s for each token, and all others 1 ms.

    The loss of trial `worst` is made the highest by far.

    Other searches find the evaluations by their keys, so that what is measured there does not hang on the machine.
    """
    engine = create_engine(f"sqlite:///{session.config.home / 'records.sqlite'}")
    with engine.begin() as connection:
        for trial in session.trials():
            assert trial.measurement is not None
            changes = {"latency_ms": 2000 * SECONDS if trial.number == slow else 1.0}
            if trial.number == worst:
                changes["loss"] = 99.0
            measurement = trial.measurement.model_copy(update=changes).model_dump_json()
            statement = text("UPDATE evaluation SET measurement = :measurement WHERE key = :key")
            connection.execute(statement, {"measurement": measurement, "key": trial.evaluation_key})
    engine.dispose()


def test_a_slow_trial_is_kept_but_never_the_best(config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same search twice. In between the best one becomes slow, and the second search has a limit on time."""

    def search(**overrides: Any) -> tuple[SearchSession, FakeOpenAI, list[Any]]:
        with FakeOpenAI(seed=3, models=["fake"]) as server:
            server.set_environment(monkeypatch)
            session = SearchSession.start(config_of(min_parameters=70_000, **overrides))
            events = list(session.stream())
        return session, server, events

    first, server, _ = search()
    assert not any("ms per token" in told for told in texts(server)), "measured times differ from run to run"
    winner = first.best()
    rewrite(first, slow=winner.number)
    second, server, events = search(max_latency_ms=1000 * SECONDS)
    same = second.trial(winner.number)
    assert same.architecture == winner.architecture and same.cached
    assert same.succeeded and same.loss == winner.loss, "it is measured"
    assert same.over_limit is not None and same.over_limit.by == 1000 * SECONDS and not same.acceptable
    assert second.best().number != winner.number and second.best().acceptable
    assert winner.number not in [trial.number for trial in second.pareto()]
    assert winner.number not in [trial.number for trial in second.pareto("loss", "latency_ms", "file_mb")]
    parents = [trial.parent_number for trial in second.trials() if trial.stage == "self_evolution"]
    assert winner.number == 0 or winner.number not in parents
    result = second.record.result
    assert result is not None and result["best"] == second.best().number
    words = "2,000,000.0 ms per token, 1,000,000.0 above max_latency_ms 1,000,000"
    assert any(words in str(event) for event in events if event.kind == "evaluation" and event.trial == winner.number)
    assert "must not take more than 1,000,000 ms" in texts(server)[0]
    assert any("ms per token" in told for told in texts(server))


def test_a_slow_first_design_gives_way(config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial 0 is over the limit: the first child within it becomes the parent, though its loss be higher."""

    def search(**overrides: Any) -> tuple[SearchSession, FakeOpenAI]:
        with FakeOpenAI(seed=3, models=["fake"]) as server:
            server.set_environment(monkeypatch)
            settings = {"trials": 4, "self_evolution": 3, "min_parameters": 70_000, **overrides}
            session = SearchSession.start(config_of(**settings))
            session.run()
        return session, server

    first, _ = search()
    rewrite(first, slow=0, worst=1)
    second, server = search(max_latency_ms=1000 * SECONDS)
    assert [trial.parent_number for trial in second.trials()][:3] == [None, 0, 1] and second.trial(1).loss == 99.0
    assert any("1,000,000.0 above max_latency_ms" in told for told in texts(server)), "by how much"
    assert second.record.result is not None
    greedy = second.record.result["table"][1]
    assert greedy["trial"] == 0 and "above max_latency_ms" in greedy["over_limit"]


def test_no_trial_within_the_limit(config_of: ConfigOf, endpoint: FakeOpenAI, tmp_path: Path) -> None:
    session = SearchSession.start(config_of(trials=3, self_evolution=1, max_latency_ms=1e-6))
    with pytest.raises(
        InputError, match=r"No trial is within the limits: the nearest, trial \d, takes .* ms per token"
    ):
        session.run()
    trials = session.trials()
    assert len(trials) == 3 and all(trial.succeeded and not trial.acceptable for trial in trials)
    assert session.pareto() == [] and not session.folder.export.exists()
    with pytest.raises(InputError, match="no trial within its limits"):
        session.best()
    assert session.export(0, tmp_path / "out").parameters == trials[0].architecture.parameters


def test_half_of_the_size_is_open_where_time_decides(
    config_of: ConfigOf, endpoint: FakeOpenAI, sources: dict[str, Path]
) -> None:
    session = SearchSession.start(config_of(trials=1, max_latency_ms=1e9))
    session.run()
    survey = Survey.model_validate_json(session.folder.survey.read_text())
    saliency = Saliency.load(survey.folder / "saliency.safetensors")
    space = make_space(session.config, survey.architecture, saliency)
    assert (space.settings.min_parameters, space.settings.max_parameters) == (40_000, 80_000)
    assert session.best().acceptable
