"""What a search reads of past runs: finished designs by name, and the best of many."""

import math
from typing import Any

import pytest

from benchmarks.past_searches import past_run
from memory import indexing, past_records
from memory.indexing import record_trials
from memory.rebuild import reconcile_vectors
from memory.records import Records
from memory.tables import Evaluation, Proposal, Run
from memory.vectors import VectorStore
from tests.memory.conftest import finish, make_design
from tests.postgresql import both_databases
from tools.errors import InputError

new_database = both_databases

ALL = (1, 10**9)


@pytest.fixture
def several(filled: Records) -> Records:
    """Besides run-a: run-b with figures of both kinds, run-c that has an evaluation of run-b's and one that failed."""
    for id in ("run-b", "run-c"):
        filled.create_run(Run(id=id, source="tiny", corpus="docs", config={"trials": 3}))
    for turn, (loss, accuracy) in enumerate(((3.0, 0.5), (3.35, 0.7), (3.9, math.nan), (3.35, 0.6))):
        finish(filled, "run-b", turn, make_design(ffn=(96, 16 * (turn + 1))), loss, {"accuracy": accuracy})
    own = filled.add_proposal(Proposal(run_id="run-c", turn=0, stage="greedy", proposer="greedy", outcome="valid"))
    trial = filled.add_trial(own.id, make_design(ffn=(96, 32)))
    shared = filled.evaluations("run-b")[1]
    filled.finish_trial(trial.id, shared.id, cached=True)
    finish(filled, "run-c", 1, make_design(ffn=(8, 8)), None)
    return filled


@pytest.mark.parametrize("objective", ["loss", "accuracy"])
@pytest.mark.parametrize("limit", [1, 3, 99])
@pytest.mark.parametrize("runs", [["run-b"], ["run-c"], ["run-b", "run-c"], ["run-a", "run-b", "run-c"], ["nobody"]])
def test_the_best_of_many_are_the_best_of_all(several: Records, objective: str, limit: int, runs: list[str]) -> None:
    looked_at = several.leading_trials(runs, limit, objective, ALL)
    assert several.leading_of_many(limit, objective, ALL, lambda ids: ids & set(runs)) == looked_at
    rows: list[tuple[float, int, str]] = []
    for run in runs:
        for view in several.trials(run) if run != "nobody" else []:
            score = view.loss if objective == "loss" else None if view.accuracy is None else -view.accuracy
            if score is not None and not math.isnan(score):
                rows.append((score, view.trial_id, view.name))
    expected = [name for _, _, name in sorted(rows)]
    if {"run-b", "run-c"} <= set(runs):
        expected.remove("run-c/0")  # it shares the evaluation of run-b/1
    assert looked_at == expected[:limit]


def test_sizes_are_kept_to(several: Records) -> None:
    sizes = (make_design(ffn=(128, 50)).parameters, make_design(ffn=(128, 100)).parameters)
    kept = ["run-a/5", "run-a/4"]
    assert several.leading_trials(["run-a"], 9, "loss", sizes) == kept
    assert several.leading_of_many(9, "loss", sizes, lambda ids: ids & {"run-a"}) == kept


def test_where_few_of_the_best_are_wanted_it_does_not_look_on(
    several: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_records, "_LOOKED_AT", (1, 2))
    asked: list[set[str]] = []

    def admitted(ids: set[str]) -> set[str]:
        asked.append(ids)
        return ids & {"run-c"}

    assert several.leading_of_many(2, "loss", ALL, admitted) is None
    assert len(asked) == 2
    assert several.leading_trials(["run-c"], 2, "loss", ALL) == ["run-c/0"]


def test_finished_designs_are_found_by_name(several: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_records, "_CHUNK", 3)
    open_one = several.add_proposal(Proposal(run_id="run-c", turn=7, stage="greedy", proposer="greedy", outcome="open"))
    several.add_trial(open_one.id, make_design(ffn=(4, 4)))
    names = [view.name for run in ("run-a", "run-b", "run-c") for view in several.trials(run)]
    found = several.finished_designs([*names, "run-a/99", "nobody/0", "run-a/0"])
    assert found.keys() == set(names) - {"run-c/2"}, "one has no evaluation yet"
    for name, one in found.items():
        view = several.trial(one.run_id, int(name.rpartition("/")[2]))
        assert (one.architecture, one.hash, one.parameters) == (
            view.architecture,
            view.architecture.hash,
            view.architecture.parameters,
        )
        assert view.measurement is not None and one.measurement.loss == view.measurement.loss
        above = None if view.parent_number is None else several.trial(one.run_id, view.parent_number).measurement
        assert one.parent == above
    assert several.finished_designs([]) == {}
    assert several.known_run_ids({"run-a", "run-c", "nobody"}) == {"run-a", "run-c"}
    runs = several.runs_named({"run-b", "run-a", "nobody"})
    assert {id: (run.source, run.corpus, run.config) for id, run in runs.items()} == {
        "run-a": ("tiny", "docs", {}),
        "run-b": ("tiny", "docs", {"trials": 3}),
    }
    assert runs["run-a"].source_architecture == several.run("run-a").source_architecture


def refused(*_: Any) -> None:
    raise InputError("no more room")


def test_what_is_recorded_at_once_is_in_the_store(
    filled: Records, store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "_PIECE", 60)
    batch = [past_run(number) for number in range(3)]
    for past in batch:
        filled.create_run(past.run)
    record_trials(filled, store, {past.run.id: past.trials for past in batch})
    record_trials(filled, store, {past.run.id: past.trials for past in batch})
    assert store.counts() == filled.indexed_counts() and store.counts()["architectures"] > 100
    assert not reconcile_vectors(filled, store)
    late = past_run(3)
    filled.create_run(late.run)
    with monkeypatch.context() as broken:
        broken.setattr(VectorStore, "add_trials", refused)
        with pytest.raises(InputError, match="no more room"):
            record_trials(filled, store, {late.run.id: late.trials})
    assert len(filled.trials(late.run.id)) == len(late.trials)
    assert reconcile_vectors(filled, store) and store.counts() == filled.indexed_counts()


def test_accuracies_stand_in_their_column(several: Records) -> None:
    assert [one.accuracy for one in several.evaluations("run-b")] == [0.5, 0.7, None, 0.6]
    assert Evaluation(measurement={"accuracy": "NaN"}).accuracy is None
