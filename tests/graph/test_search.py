"""Whole searches over a tiny real model and a real HTTP endpoint: both stages, faults, caching, repeatability."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from graph.config import SearchConfig
from graph.events import AnyEvent
from graph.folder import Home
from graph.session import SearchSession
from memory.rebuild import open_vectors
from memory.records import Records
from memory.tables import Proposal
from tests.fake_openai import FakeOpenAI, Status
from tests.tiny_search import both_places
from tools.errors import InputError
from tools.export.compact import load_compact
from tools.requests import Survey, evaluation_key

ConfigOf = Callable[..., SearchConfig]
places = both_places
# What is not about where things are kept: on servers with the slow tests.
at_home_first = pytest.mark.parametrize(
    "places", ["local", pytest.param("servers", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        yield server


def events_of(session: SearchSession) -> list[AnyEvent]:
    return list(session.stream())


def test_a_whole_search(config_of: ConfigOf, endpoint: FakeOpenAI, tmp_path: Path) -> None:
    session = SearchSession.start(config_of())
    events = events_of(session)
    trials = session.trials()

    assert [trial.stage for trial in trials] == ["greedy"] + 2 * ["self_evolution"] + 2 * ["knowledge_distillation"]
    assert all(trial.succeeded and trial.measurement is not None for trial in trials)
    assert all(0.97 * 80_000 <= trial.architecture.parameters <= 80_000 for trial in trials)
    assert len({trial.architecture.hash for trial in trials}) == 5
    assert all(trial.forecast is not None and trial.forecast > 0 for trial in trials)
    assert {event.kind for event in events} >= {"stage", "progress", "survey", "proposal", "evaluation", "finished"}
    assert all(str(event) for event in events)

    # Self-evolution asks twice a turn: strategies, then a design that continues the same conversation.
    first, second = endpoint.requests[0].body["messages"], endpoint.requests[1].body["messages"]
    assert second[: len(first)] == first and second[len(first)]["content"] == endpoint.requests[0].answered
    calls = session.calls()
    assert len(calls) == len(endpoint.requests) and all(call.input_tokens and call.output_tokens for call in calls)
    assert all(proposal.raw for proposal in session.proposals() if proposal.stage != "greedy")

    record = session.record
    assert record.status == "finished" and record.result is not None
    names = [row["name"] for row in record.result["table"]]
    assert names == ["parent, not trained further", "saliency-greedy design", "best of the search"]
    assert (session.folder.path / "best_shape.png").read_bytes().startswith(b"\x89PNG")
    assert session.best().loss == min(trial.loss or 9.0 for trial in trials)
    sizes = [trial.architecture.parameters for trial in session.pareto()]
    assert sizes == sorted(sizes) and session.best().number in [trial.number for trial in session.pareto()]

    home = Home(session.config.home)
    with open_vectors(home.vectors, tmp_path / "private", session._records, session.config.vectors) as vectors:
        assert vectors.counts()["architectures"] == 5 and vectors.counts()["prompts"] >= 3
    assert not events_of(session), "a finished search costs nothing"


@at_home_first
def test_several_designs_at_once(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    session = SearchSession.start(config_of(trials=6, self_evolution=3, parallel=2))
    session.run()
    trials = session.trials()
    assert len(trials) == 6 and len({trial.architecture.hash for trial in trials}) == 6
    turns = [proposal.turn for proposal in session.proposals() if proposal.outcome not in ("open", "unparsed")]
    assert turns == list(range(6)), "one turn for each design, none asked for twice"


@at_home_first
def test_continuous_dropping_in_a_search(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    recipe = {"warmup_steps": 2, "training_steps": 6, "batch_size": 2, "micro_batch_size": 1, "drops": 3}
    session = SearchSession.start(config_of(trials=2, recipe=recipe))
    best = session.run()
    assert best.measurement is not None and best.measurement.loss_before_training is None
    assert best.measurement.parameters == best.architecture.parameters


OPENED = """
import sys, torch
from transformers import AutoModelForCausalLM
tokens = torch.tensor([[int(word) for word in sys.argv[1].split()]])
for directory in sys.argv[2:]:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    print(model(input_ids=tokens).logits.detach().double().flatten().tolist())
"""


def logits_in_a_new_process(tokens: torch.Tensor, *directories: Path) -> list[torch.Tensor]:
    words = " ".join(str(int(token)) for token in tokens[0])
    command = [sys.executable, "-c", OPENED, words, *map(str, directories)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [torch.tensor([float(value) for value in line.strip("[]").split(",")]) for line in done.stdout.splitlines()]


@at_home_first
def test_the_exported_model_is_the_measured_one(config_of: ConfigOf, endpoint: FakeOpenAI, tmp_path: Path) -> None:
    session = SearchSession.start(config_of(trials=3))
    best = session.run()
    survey = Survey.model_validate_json(session.folder.survey.read_text())
    key = evaluation_key(survey, best.architecture, session.config.recipe, session.config.seed, "short_training")
    grown = load_compact(survey.source_path, session.config.home / "evaluations" / key / "model")
    tokens = torch.arange(3, 35)[None]
    with torch.no_grad():
        expected = grown.eval()(input_ids=tokens).logits.flatten()
    report = session.export(best, tmp_path / "exported")
    found = logits_in_a_new_process(tokens, session.folder.export, tmp_path / "exported")
    assert len(found) == 2
    for logits in found:
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3)
    assert report.parameters == best.architecture.parameters
    with pytest.raises(InputError, match="exists already"):
        session.export(best, tmp_path / "exported")


def test_weights_that_were_not_kept_are_grown_again(config_of: ConfigOf, endpoint: FakeOpenAI, tmp_path: Path) -> None:
    session = SearchSession.start(config_of(trials=4, keep_models=1))
    best = session.run()
    other = next(trial for trial in session.trials() if trial.number not in (0, best.number))
    key = other.evaluation_key
    assert key is not None
    folder = session.config.home / "evaluations" / key
    assert not (folder / "model").exists() and (folder / "measurement.json").is_file()
    session.export(other, tmp_path / "exported")
    assert (folder / "model" / "model.safetensors").is_file()
    assert session.trial(other.number) == other, "the record stays as it was"


def test_the_same_seed_gives_the_same_search(config_of: ConfigOf, endpoint: FakeOpenAI, tmp_path: Path) -> None:
    def search(home: str) -> list[Any]:
        with FakeOpenAI(seed=5, models=["fake"]) as server, pytest.MonkeyPatch.context() as patch:
            server.set_environment(patch)
            session = SearchSession.start(config_of(home=tmp_path / home, cache=tmp_path / home))
            session.run()
            return [(trial.architecture.hash, trial.loss) for trial in session.trials()]

    assert search("one") == search("two")


def test_a_second_run_pays_for_nothing_that_is_known(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    first = SearchSession.start(config_of(trials=1))
    first.run()
    second = SearchSession.start(config_of(trials=1))
    second.run()
    assert not first.trials()[0].cached and second.trials()[0].cached
    assert first.trials()[0].evaluation_key == second.trials()[0].evaluation_key


ILLEGAL = {
    "strategies_applied": ["make everything as wide as it was"],
    "patterns": ["all of them are too wide in the middle"],
    "hidden_size": 64,
    "spans": [{"first_layer": 2, "last_layer": 0, "num_key_value_heads": 4, "intermediate_size": 96}],
}
WHOLE_SOURCE = {"first_layer": 0, "last_layer": 2, "num_key_value_heads": 4, "intermediate_size": 96}
TOO_LARGE = {**ILLEGAL, "spans": [WHOLE_SOURCE]}


@at_home_first
@pytest.mark.parametrize(("fault", "words"), [(ILLEGAL, "layers must rise"), (TOO_LARGE, "above the limit")])
def test_illegal_designs_go_back_in_words_and_are_projected_on_the_record(
    config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], words: str
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        schema = str(body["response_format"])
        field = "patterns" if "patterns" in schema else "strategies_applied"
        if "spans" not in schema:
            return None
        return {key: value for key, value in fault.items() if key in (field, "hidden_size", "spans")}

    with FakeOpenAI(script=answer, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(trials=3, self_evolution=1))
        session.run()
        repairs = [request for request in server.requests if words in request.body["messages"][-1]["content"]]
    assert len(repairs) == 2, "one repair a turn, with the checker's words"
    proposals = [proposal for proposal in session.proposals() if proposal.stage != "greedy"]
    assert [(proposal.attempt, proposal.outcome) for proposal in proposals] == 2 * [(0, "open"), (1, "projected")]
    assert all(proposal.notes for proposal in proposals if proposal.outcome == "projected")
    assert all(proposal.parsed == proposals[0].parsed for proposal in proposals[:2]), "the answer is kept as it was"


@at_home_first
@pytest.mark.parametrize("lost_attempt", [0, 1, 2])
def test_an_answer_that_was_not_made_a_proposal_is_not_asked_for_again(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost_attempt: int
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return dict(ILLEGAL) if "spans" in str(body["response_format"]) else None

    def lost(records: Records, proposal: Proposal) -> Proposal:
        if proposal.stage != "greedy" and proposal.attempt == lost_attempt:
            raise InputError("gone")
        return add_proposal(records, proposal)

    add_proposal = Records.add_proposal
    settings = {"trials": 2, "self_evolution": 1, "repairs": 2}
    with FakeOpenAI(script=answer, seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        SearchSession.start(config_of(**settings)).run()
        undisturbed = [request.body["messages"] for request in server.requests]
    with FakeOpenAI(script=answer, seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(**settings, home=tmp_path / "another home"))
        with monkeypatch.context() as patched, pytest.raises(InputError, match="gone"):
            patched.setattr(Records, "add_proposal", lost)
            session.run()
        SearchSession.resume(session.run_id, session.config.home).run()
        assert [request.body["messages"] for request in server.requests] == undisturbed


def test_an_endpoint_that_fails_stops_the_search_and_resume_goes_on(
    config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([None, None, None])

    def answer(body: dict[str, Any]) -> Any:
        try:
            return next(answers)
        except StopIteration:
            return Status(500)

    with FakeOpenAI(script=answer, seed=1, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of())
        with pytest.raises(InputError, match="500"):
            events_of(session)
    assert session.record.status == "interrupted"
    done = {trial.number: trial.created_at for trial in session.trials() if trial.measurement is not None}
    assert done
    with FakeOpenAI(seed=1, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        resumed = SearchSession.resume(session.run_id, session.config.home)
        events = events_of(resumed)
    again = [event.trial for event in events if event.kind == "progress" and event.trial is not None]
    assert not set(again) & set(done), "no finished evaluation is repeated"
    assert resumed.record.status == "finished" and len(resumed.trials()) == 5


def test_leaving_the_stream_stops_the_work(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    session = SearchSession.start(config_of())
    for event in session.stream():
        if event.kind == "evaluation":
            break
    assert session.record.status == "interrupted"
    resumed = SearchSession.resume(session.run_id, session.config.home)
    assert resumed.run().loss is not None and len(resumed.trials()) == 5


def test_resume_refuses_another_config(config_of: ConfigOf) -> None:
    session = SearchSession.start(config_of())
    with pytest.raises(InputError, match="trials: 5 -> 9"):
        SearchSession.resume(session.run_id, session.config.home, config_of(trials=9))


def test_a_run_belongs_to_one_process(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    session = SearchSession.start(config_of(trials=2))
    stream = session.stream()
    next(stream)
    with pytest.raises(InputError, match="another process"):
        events_of(SearchSession.resume(session.run_id, session.config.home))
    stream.close()


def test_the_records_open_while_a_search_runs(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    session = SearchSession.start(config_of(trials=3))
    seen = []
    for event in session.stream():
        if event.kind == "evaluation":
            with Records.open(Home(session.config.home).records) as records:
                seen.append(len([trial for trial in records.trials(session.run_id) if trial.measurement]))
    assert seen == [1, 2, 3]
