"""The vector store: nearness, filters, harmless repetition, ownership, and agreement with the records."""

from collections.abc import Callable
from pathlib import Path

import pytest

from memory.rebuild import index_trials, open_vectors, rebuild_vectors, reconcile_vectors
from memory.records import Records
from memory.retrieval import nearest_designs, related_lessons
from memory.tables import Run
from memory.vectors import VectorStore
from memory.views import TrialView
from tools.architecture import Architecture

Design = Callable[..., Architecture]
ROOT = Path(__file__).parents[2]
EXPECTED = {"architectures": 8, "lessons": 16, "prompts": 1}


def test_a_new_store_is_filled_from_the_records(store: VectorStore, filled: Records) -> None:
    assert store.counts() == EXPECTED == filled.indexed_counts()
    assert not store.temporary


@pytest.mark.parametrize("turn", range(8))
def test_nearest_in_shape_come_first(store: VectorStore, design: Design, turn: int) -> None:
    found = store.nearest(design(ffn=(128, 16 * (turn + 1))), design(), 8)
    away = [abs(neighbour.metadata["number"] - turn) for neighbour in found]
    assert found[0].id == f"run-a/{turn}" and found[0].distance == pytest.approx(0, abs=1e-3)
    assert away == sorted(away)
    # One of two layers is 16/128 narrower or wider: a root mean square of 0.125 / sqrt(2) for each step.
    assert found[-1].distance == pytest.approx(max(away) * 0.125 / 2**0.5, rel=1e-3)


def test_filters_apply(store: VectorStore, design: Design) -> None:
    failed = store.nearest(design(), design(), 8, {"succeeded": False})
    assert [neighbour.id for neighbour in failed] == ["run-a/3"]
    assert failed[0].metadata["outcome"] == "failed: out of memory"
    assert store.nearest(design(), design(), 8, {"run_id": "run-a", "loss": {"$lt": 3.45}})[0].id == "run-a/7"
    assert store.nearest(design(), design(), 8, {"run_id": "other", "succeeded": True}) == []
    assert store.nearest(design(), design(), 0) == []


def test_designs_for_a_prompt_leave_out_the_design_itself(store: VectorStore, design: Design) -> None:
    found = nearest_designs(store, design(ffn=(128, 96)), design(), 2)
    assert {entry.id for entry in found} == {"run-a/4", "run-a/6"}
    assert "ffn 128" in found[0].design
    outcomes = {entry.id: entry.outcome for entry in found}
    assert outcomes == {"run-a/4": "loss 3.600", "run-a/6": "loss 3.400, 0.100 below its parent"}


def test_lessons_are_found_by_their_wording_once_each(store: VectorStore) -> None:
    found = related_lessons(store, "early layers should be kept wide", 3)
    assert found[0].text == "keep the early layers wide"
    assert len({lesson.text for lesson in found}) == len(found) == 3
    assert related_lessons(store, "narrow the late FFN to 96", 1)[0].loss == pytest.approx(3.5)
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
    assert store.counts() == {"architectures": 9, "lessons": 17, "prompts": 1}
    assert store.lessons("halve the hidden size", 1)[0].metadata["loss"] == 2.0
    assert store.ids("prompts") == {"abc"}


def test_rebuilding_gives_the_same_answers(store: VectorStore, filled: Records, design: Design) -> None:
    before = store.nearest(design(), design(), 8)
    store.delete("architectures", ["run-a/1", "run-a/7"])
    rebuild_vectors(filled, store)
    assert store.nearest(design(), design(), 8) == before
    assert store.counts() == EXPECTED


def test_conditions_on_fields_that_chroma_does_not_know(store: VectorStore, design: Design) -> None:
    assert [found.id for found in store.nearest(design(), design(), 9, {"number": {"$in": [2, 5]}})] == [
        "run-a/5",
        "run-a/2",
    ]
    assert store.nearest(design(), design(), 9, {"number": {"$gt": 7}}) == []
    assert len(store.nearest(design(), design(), 9, {"failure": {"$ne": "out_of_memory"}, "number": {"$lt": 5}})) == 4
    # Many more than are looked at first, and the one that is wanted is the farthest.
    store.add_lessons([(f"run-b/{index}/0", f"lesson {index % 7}", {"run_id": "run-b"}) for index in range(600)])
    store.add_lessons([("run-c/0/0", "keep", {"run_id": "run-c"}), ("run-c/1/0", "wide", {"run_id": "run-c"})])
    assert {found.id for found in store.lessons("lesson 3", 3, {"run_id": "run-c"})} == {"run-c/0/0", "run-c/1/0"}
    assert store.lessons("lesson 3", 3, {"nothing": "known"}) == []
