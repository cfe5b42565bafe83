"""The vector store: nearness, filters, harmless repetition, ownership, and agreement with the records."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory.rebuild import index_trials, open_vectors, rebuild_vectors, reconcile_vectors
from memory.records import Records
from memory.tables import Run
from memory.vector_rows import Row
from memory.vectors import VectorStore
from memory.views import TrialView
from tests.chroma_server import chroma_beside_postgresql
from tests.postgresql import both_databases
from tools.architecture import Architecture

new_database, vectors_url = both_databases, chroma_beside_postgresql

Design = Callable[..., Architecture]
ROOT = Path(__file__).parents[2]
EXPECTED = {"architectures": 7, "failures": 1, "lessons": 16, "prompts": 1}


def test_a_new_store_is_filled_from_the_records(
    store: VectorStore, filled: Records, places: tuple[Path, Path], vectors_url: str | None
) -> None:
    assert store.counts() == EXPECTED == filled.indexed_counts()
    assert store.place == (vectors_url or places[0])


@pytest.mark.parametrize("turn", range(8))
def test_nearest_in_shape_come_first(store: VectorStore, design: Design, turn: int) -> None:
    found = store.nearest(design(ffn=(128, 16 * (turn + 1))), design(), 8)
    away = [abs(int(neighbour.id.partition("/")[2]) - turn) for neighbour in found]
    assert found[0].id == f"run-a/{turn}" and found[0].distance == pytest.approx(0, abs=1e-3)
    assert away == sorted(away)
    # One of two layers is 16/128 narrower or wider: a root mean square of 0.125 / sqrt(2) for each step.
    assert found[-1].distance == pytest.approx(max(away) * 0.125 / 2**0.5, rel=1e-3)


def test_filters_apply(store: VectorStore, design: Design) -> None:
    failed = store.nearest(design(), design(), 8, {"succeeded": False})
    assert [neighbour.id for neighbour in failed] == ["run-a/3"]
    sizes = {"$gte": design(ffn=(128, 80)).parameters, "$lte": design(ffn=(128, 112)).parameters}
    for narrowed in ({"parameters": sizes}, {"parameters": sizes, "run_id": "run-a"}):
        assert [found.id for found in store.nearest(design(), design(), 8, narrowed)] == [
            "run-a/6",
            "run-a/5",
            "run-a/4",
        ]
    assert store.nearest(design(), design(), 2, {"succeeded": True})[1].id == "run-a/6"
    assert store.nearest(design(), design(), 8, {"run_id": "other", "succeeded": True}) == []
    assert store.nearest(design(), design(), 0) == []


def test_a_design_can_be_left_out(store: VectorStore, design: Design) -> None:
    asked = design(ffn=(128, 96))
    found = store.nearest(asked, design(), 2, {"architecture_hash": {"$ne": asked.hash}})
    assert {entry.id for entry in found} == {"run-a/4", "run-a/6"}


def test_texts_are_found_by_their_wording(store: VectorStore) -> None:
    assert store.lessons("early layers should be kept wide", 3)[0].text == "keep the early layers wide"
    assert store.lessons("narrow the late FFN to 96", 1)[0].id == "run-a/5/0"
    assert store.prompts("compact model designer", 5)[0].metadata == {"name": "evolver"}


def test_an_empty_store_answers_with_nothing(records: Records, places: tuple[Path, Path], design: Design) -> None:
    with open_vectors(*places, records) as empty:
        assert empty.nearest(design(), design(), 3) == empty.lessons("x", 3) == empty.prompts("x", 3) == []


def test_repeating_is_harmless(store: VectorStore, filled: Records) -> None:
    index_trials(filled, store, "run-a")
    index_trials(filled, store, "run-a", [2, 2])
    store.add_lessons([("run-a/0/0", "same id", {}), ("run-a/0/0", "and again", {})])
    assert store.counts() == EXPECTED
    assert not reconcile_vectors(filled, store)


def test_a_store_that_lags_or_leads_is_put_right(
    store: VectorStore, filled: Records, design: Design, finish_trial: Callable[..., TrialView]
) -> None:
    finish_trial(filled, "run-a", 50, design(hidden=32), 2.0, rationale=["halve the hidden size"])
    filled.create_run(Run(id="unknown-source"))
    finish_trial(filled, "unknown-source", 0, design(), 2.0, rationale=["not indexed"])
    store.add_prompts([("stale", "a prompt that no record has", {"name": "x"})])
    assert reconcile_vectors(filled, store)
    assert store.counts() == EXPECTED | {"architectures": 8, "lessons": 17}
    assert store.lessons("halve the hidden size", 1)[0].id == "run-a/8/0"
    assert store.ids("prompts") == {"abc"}


def test_rebuilding_gives_the_same_answers(store: VectorStore, filled: Records, design: Design) -> None:
    before = store.nearest(design(), design(), 8)
    store.delete("architectures", ["run-a/1", "run-a/7"])
    rebuild_vectors(filled, store)
    assert store.nearest(design(), design(), 8) == before
    assert store.counts() == EXPECTED


def test_what_the_index_misses_among_few_is_found(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many equal vectors Chroma's graph has islands: of few that meet a condition it finds some, by chance."""
    for run, source, count in (("run-b", "b", 600), ("run-c", "c", 2)):
        places = {"run_id": run, "source": source, "corpus": "docs"}
        store.add_lessons([(f"{run}/{index}/0", f"{run} lesson {index % 7}", places) for index in range(count)])
    whole = store._query

    def misses(name: Any, count: int, vector: Any, conditions: Any) -> list[Row]:
        return whole(name, count, vector, conditions)[: 1 if conditions else count]

    monkeypatch.setattr(store, "_query", misses)
    assert {one.id for one in store.lessons("run-b lesson 3", 3, {"source": "c"})} == {"run-c/0/0", "run-c/1/0"}


def test_what_few_meet_is_found_behind_many_that_are_nearer(store: VectorStore, design: Design) -> None:
    for run, source, count in (("run-b", "b", 600), ("run-c", "c", 2)):
        places = {"run_id": run, "source": source, "corpus": "docs"}
        store.add_lessons([(f"{run}/{index}/0", f"{run} lesson {index % 7}", places) for index in range(count)])
    for where in ({"run_id": "run-c"}, {"source": "c"}, {"source": "c", "corpus": "docs"}):
        found = store.lessons("run-b lesson 3", 3, where)
        assert {one.id for one in found} == {"run-c/0/0", "run-c/1/0"}
        assert found[0].distance <= found[1].distance
    assert store.lessons("lesson 3", 3, {"source": "d"}) == [] == store.lessons("lesson 3", 3, {"run_id": "d"})


def test_comparing_all_of_a_run_gives_the_distances_of_the_index(store: VectorStore, design: Design) -> None:
    words = "narrow the FFN"
    by_index, compared = store.lessons(words, 16), store.lessons(words, 16, {"run_id": "run-a"})
    assert [one.distance for one in compared] == pytest.approx([one.distance for one in by_index], abs=1e-5)
    shapes = [store.nearest(design(), design(), 8, where) for where in ({}, {"run_id": "run-a"})]
    assert [one.id for one in shapes[0]] == [one.id for one in shapes[1]]
    assert [one.distance for one in shapes[1]] == pytest.approx([one.distance for one in shapes[0]], abs=1e-5)
