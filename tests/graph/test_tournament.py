"""The agents against judges in whole searches: equal seeds, everything paid for once, and what is said of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graph.config import SearchConfig
from graph.judgement import Judgement, Outcome
from graph.judgement_picture import best_so_far
from graph.session import SearchSession
from graph.tournament import Tournament, judge, tournament_of
from memory.records import Records
from tests.fake_openai import FakeOpenAI
from tools.errors import InputError

ConfigOf = Callable[..., SearchConfig]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        yield server


def paid(config: SearchConfig) -> dict[str, str]:
    """The run that paid for each evaluation, by key."""
    with Records.open(config.home / "records.sqlite") as records:
        found = [evaluation for run in records.runs() for evaluation in records.evaluations(run.id)]
    assert len({evaluation.key for evaluation in found}) == len(found)
    return {evaluation.key: evaluation.run_id for evaluation in found}


def test_a_tournament_that_is_stopped_and_started_again_pays_for_nothing_twice(
    config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI
) -> None:
    config = config_of(trials=3, self_evolution=1, cache=survey_cache)
    tournament = Tournament(config, ["random", "local", "random"], 2)
    assert [str(entry) for entry in tournament.entries] == [
        *("agents, seed 0", "random, seed 0", "local, seed 0"),
        *("agents, seed 1", "random, seed 1", "local, seed 1"),
    ]
    first = tournament.session(tournament.entries[0])
    assert list(tournament.stream(first))
    second = tournament.session(tournament.entries[1])
    stream = tournament.stream(second)
    assert next(event for event in stream if event.kind == "evaluation" and event.trial == 1)
    stream.close()
    before, asked = paid(config), len(endpoint.requests)
    assert len(before) == 4 and second.record.status == "interrupted"

    found = Tournament(config, ["random", "local"], 2).play()
    after = paid(config)
    assert after.items() >= before.items()
    with Records.open(config.home / "records.sqlite") as records:
        runs = records.runs()
        designs = {(run.config["seed"], trial.architecture.hash) for run in runs for trial in records.trials(run.id)}
    assert len(after) == len(designs), "trial 0 of a seed is grown once for all searchers"
    assert len(runs) == 6 and all(run.status == "finished" for run in runs)
    assert {run.config["past_runs"] for run in runs} == {"none"}, "each knows its own trials alone"
    assert {first.run_id, second.run_id} < {outcome.run for outcome in found.outcomes} == {run.id for run in runs}
    again = {call.turn for call in first.calls()}
    assert len(endpoint.requests) == 2 * asked and len(again) == 2, "the other seed of the agents alone was asked for"

    assert found.trials == 3 and [row.searcher for row in found.rows] == [
        "saliency-greedy",
        "agents",
        "random",
        "local",
    ]
    for row in found.rows[2:]:
        assert row.lift is not None and row.lift.seeds == (0, 1) and row.seeds == 2
        assert row.lift.judge_best == pytest.approx(row.best)
    assert judge(first.run_id[:-1], ["random", "local"], 2, config.home) == found, "nothing is left to do"
    assert len(endpoint.requests) == 2 * asked and paid(config) == after


@pytest.mark.parametrize("past_runs", [True, False])
def test_memory_of_other_runs_is_shown_only_where_it_may(
    config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI, past_runs: bool
) -> None:
    SearchSession.start(config_of(trials=3, llm_share=0, cache=survey_cache)).run()
    SearchSession.start(config_of(trials=2, past_runs=past_runs, cache=survey_cache)).run()
    prompts = [str(message["content"]) for request in endpoint.requests for message in request.body["messages"]]
    assert any("cut the groups of least saliency" in prompt for prompt in prompts), "its own trial 0"
    assert any("a design drawn at random" in prompt for prompt in prompts) == past_runs


def test_after_the_fact(config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI, tmp_path: Path) -> None:
    config = config_of(trials=3, seed=7, record=tmp_path / "tape.jsonl", cache=survey_cache)
    session = SearchSession.start(config)
    session.run()
    asked = len(endpoint.requests)
    found = judge("latest", home=config.home)
    assert [(one.searcher, one.seed) for one in found.outcomes] == [("agents", 7), ("random", 7)]
    assert found.outcomes[0].run == session.run_id and len(endpoint.requests) == asked
    assert "fewer than 6 seeds" in found.verdicts[0].sentence
    assert tournament_of("latest", ["local"], 1, config.home).entries[0].run == session.run_id, "a judge's came later"
    found.draw(tmp_path / "lift.png")
    assert (tmp_path / "lift.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="no turn"):
        judge(found.outcomes[1].run, home=config.home)


def test_a_search_without_any_design_within_the_limits_is_left_out(
    config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI
) -> None:
    config = config_of(trials=2, max_latency_ms=1e-6, min_parameters=1000, cache=survey_cache)
    found = Tournament(config, ["random"], 1).play()
    assert found.best is None and [row.best for row in found.rows] == [None, None, None]
    assert found.verdicts[0].lift is None and "nothing can be compared" in found.verdicts[0].sentence


@pytest.mark.parametrize(
    ("overrides", "judges", "seeds", "words"),
    [
        ({}, ["randm"], 1, "no judge 'randm', only random, .*; did you mean 'random'"),
        ({}, [], 1, "one judge and one seed"),
        ({}, ["random"], 0, "one judge and one seed"),
        ({"llm_share": 0}, ["random"], 1, "llm_share is 0"),
        ({"trials": 1}, ["random"], 1, "trial 0 alone"),
    ],
)
def test_nothing_to_compare(
    config_of: ConfigOf, overrides: dict[str, Any], judges: list[str], seeds: int, words: str
) -> None:
    config = config_of(**overrides)
    with pytest.raises(InputError, match=words):
        Tournament(config, judges, seeds)
    assert not config.home.exists()


def judgement(agents: list[float], other: list[float], objective: Any = "loss") -> Judgement:
    """One search of two trials a seed; trial 0 is worth 4 everywhere, or -0.1 where accuracy decides."""
    start = 4.0 if objective == "loss" else -0.1
    return Judgement(
        objective,
        tuple(
            Outcome(name, seed, f"{name}-{seed}", (start, value))
            for name, values in (("agents", agents), ("random", other))
            for seed, value in enumerate(values)
        ),
    )


def test_the_sentences_follow_from_the_numbers() -> None:
    better, worse, alike = (
        [3.0, 3.1, 3.0, 3.1, 3.0, 3.1],
        [3.5, 3.6, 3.4, 3.6, 3.5, 3.5],
        [3.1, 3.0, 3.1, 3.0, 3.1, 3.0],
    )
    (won,) = judgement(better, worse).verdicts
    assert won.sentence.startswith("The LLM helped: its best loss is 0.4667 below random's (95 % confidence +0.")
    (lost,) = judgement(worse, better).verdicts
    assert lost.sentence.startswith("The LLM did not help: its best loss is 0.4667 above random's")
    (neither,) = judgement(better, alike).verdicts
    assert neither.sentence.startswith(
        "No lift of the LLM is shown: its best loss is 0.0000 below random's, which chance"
    )
    worst = judgement([9.0] * 6, better)
    assert worst.rows[1].best == 4.0, "trial 0 counts"
    (accurate,) = judgement([-0.5] * 6, [-0.4] * 6, "accuracy").verdicts
    assert accurate.sentence.startswith("The LLM helped: its best accuracy is 0.1000 above random's")
    rows = judgement([-0.5] * 6, [-0.4] * 6, "accuracy").rows
    assert [row.best for row in rows] == pytest.approx([0.1, 0.5, 0.4])
    best = judgement(better, worse).best
    assert best is not None and best.run == "agents-0"


def test_the_best_so_far() -> None:
    curves = best_so_far([[None, 3.0, 4.0, 2.0], [5.0, None, 6.0, 4.0]])
    assert curves[0].tolist()[1:] == [3.0, 3.0, 2.0] and curves[1].tolist() == [5.0, 5.0, 5.0, 4.0]
    assert best_so_far([[0.1, 0.3, 0.2]], rising=True).tolist() == [[0.1, 0.3, 0.3]]
