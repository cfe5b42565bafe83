"""What a search is given from its past: near, good, failed, lessons; of other runs only what may be said of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.diversity import diverse
from memory.filters import Filter, Reach
from memory.rebuild import index_trials, open_vectors
from memory.recall import designs_near, diverse_best, fitting_lessons, plain
from memory.records import Records
from memory.sentences import is_sentence
from memory.shapes import describe_shape
from memory.stored_library import StoredLibrary
from memory.tables import Run
from memory.vectors import VectorStore
from tests.chroma_server import chroma_beside_postgresql
from tests.memory.conftest import finish, make_design
from tests.postgresql import both_databases
from tools.architecture import Architecture
from tools.settings import GoalSettings

new_database, vectors_url = both_databases, chroma_beside_postgresql

SIZES = (1, 10**9)


def run_of(records: Records, id: str, uncut: Architecture, **fields: Any) -> None:
    """A run with this source."""
    records.create_run(Run(id=id, **{"source": "tiny", "corpus": "docs", **fields}))
    records.update_run(id, source_architecture=uncut.model_dump(mode="json"))


@pytest.fixture
def past(filled: Records) -> Records:
    """Besides run-a: one that measures alike, one with another recipe, one on other text, one of another source."""
    tiny, large = make_design(), make_design(256, (512,) * 4, 4, 8)
    run_of(filled, "alike", tiny)
    run_of(filled, "trained-otherwise", tiny, config={"recipe": {"training_steps": 9}})
    run_of(filled, "other-text", tiny, corpus="poems")
    run_of(filled, "large", large, source="hub/large-model")
    for run, ffn, losses in (
        ("alike", (120, 72), (2.0, 2.5)),
        ("trained-otherwise", (104, 64), (0.3, 0.2)),
        ("other-text", (112, 64), (0.5, 0.4)),
    ):
        finish(filled, run, 0, make_design(ffn=ffn), losses[0], rationale=[f"start {run}"])
        second = make_design(ffn=(ffn[0], ffn[1] - 8))
        finish(filled, run, 1, second, losses[1], parent_number=0, rationale=[f"narrow the late FFN in {run}"])
    finish(filled, "large", 0, make_design(256, (512, 512, 256, 256), 4, 8), 1.0)
    finish(filled, "large", 1, make_design(256, (512, 512, 256, 128), 4, 8), None, parent_number=0)
    return filled


def library(records: Records, store: VectorStore, reach: Reach = "same_source", **settings: Any) -> StoredLibrary:
    return StoredLibrary(
        records=records,
        vectors=store,
        run_id="run-a",
        reference=make_design(),
        reach=reach,
        **{"goal": GoalSettings(), "sizes": SIZES, **settings},
    )


@pytest.fixture
def open_library(past: Records, places: tuple[Path, Path], vectors_url: str | None) -> Any:
    with open_vectors(*places, past, vectors_url) as store:
        yield lambda reach="same_source", **settings: library(past, store, reach, **settings)


def test_near_designs_and_failed_ones_are_apart(open_library: Callable[..., StoredLibrary]) -> None:
    own = open_library("none")
    near, failed = designs_near(own, make_design(ffn=(128, 80)), 2, own.scope)
    assert [one.id for one in near] == ["run-a/4", "run-a/5"]
    assert near[0].outcome == "loss 3.600, 0.100 above its parent" or near[0].outcome.startswith("loss 3.600")
    assert [(one.id, one.outcome, one.loss) for one in failed] == [
        ("run-a/3", "failed: out of memory (too large)", None)
    ]
    assert all(one.origin == "" for one in (*near, *failed))


def test_the_asked_design_itself_is_not_among_them(open_library: Callable[..., StoredLibrary]) -> None:
    own, asked = open_library("none"), make_design(ffn=(128, 80))
    near, _ = designs_near(own, asked, 8, Filter(run_id="run-a", unlike=asked.hash))
    assert "run-a/4" not in [one.id for one in near] and len(near) == 6


def test_figures_are_told_of_runs_that_measure_alike_alone(open_library: Callable[..., StoredLibrary]) -> None:
    every = open_library("all")
    near, failed = designs_near(every, make_design(ffn=(120, 64)), 30, every.scope)
    told = {one.id: one for one in (*near, *failed)}
    assert told["alike/1"].origin == "of another run" and told["alike/1"].loss == 2.5
    assert told["alike/1"].outcome == "loss 2.500, 0.500 above its parent"
    otherwise = [one for one in told.values() if one.id.split("/")[0] not in ("run-a", "alike")]
    assert len(otherwise) == 6
    for one in otherwise:
        assert one.loss is None and not any(mark.isdigit() for mark in one.outcome), "no figure of it compares"
    assert told["trained-otherwise/1"].outcome == "better than its parent"
    assert told["trained-otherwise/0"].outcome == "it could be grown"
    assert told["trained-otherwise/1"].origin == "of another run, trained otherwise"
    assert told["other-text/1"].origin == "of another run on other text"
    assert told["large/1"].outcome == "failed: out of memory (too large)"
    assert told["large/0"].origin == "of another source model, large-model, and relative to it"
    assert told["large/0"].design == describe_shape(
        make_design(256, (512, 512, 256, 256), 4, 8), make_design(256, (512,) * 4, 4, 8)
    )
    assert "hidden 100 %" in told["large/0"].design and "late layers kv_heads 100 %, ffn 50 %" in told["large/0"].design


@pytest.mark.parametrize(
    ("reach", "runs"),
    [
        ("none", {"run-a"}),
        ("same_source", {"run-a", "alike", "trained-otherwise"}),
        ("all", {"run-a", "alike", "trained-otherwise", "other-text", "large"}),
    ],
)
def test_reach(open_library: Callable[..., StoredLibrary], reach: Reach, runs: set[str]) -> None:
    found = open_library(reach)
    near, failed = designs_near(found, make_design(ffn=(120, 64)), 30, found.scope)
    lessons = fitting_lessons(found, "narrow the late FFN", 1.0, 50, found.scope)
    assert {one.id.split("/")[0] for one in (*near, *failed)} == runs
    assert {one.id.split("/")[0] for one in lessons} == runs - {"large"}
    best = diverse_best(found, 30)
    assert {one.id.split("/")[0] for one in best} == ({"run-a"} if reach == "none" else {"run-a", "alike"})


def test_sizes_that_do_not_fit_are_left_out(open_library: Callable[..., StoredLibrary]) -> None:
    sizes = (make_design(ffn=(128, 60)).parameters, make_design(ffn=(128, 100)).parameters)
    found = open_library("all", sizes=sizes)
    near, failed = designs_near(found, make_design(ffn=(128, 80)), 30, found.scope)
    inside = {"run-a/3", "run-a/4", "run-a/5"}
    assert {one.id for one in (*near, *failed) if one.id.startswith("run-a")} == inside
    assert {one.id for one in diverse_best(found, 30)} == {"run-a/5", "alike/0"}, "the better half"
    assert any(one.id.startswith("large") for one in near), "of another source model sizes say nothing"


def test_what_is_over_the_limit_of_the_search_is_no_use(
    past: Records, open_library: Callable[..., StoredLibrary]
) -> None:
    slow = make_design(ffn=(96, 80))
    view = finish(past, "run-a", 50, slow, 3.0, figures={"latency_ms": 30.0})
    found = open_library("none", goal=GoalSettings(max_latency_ms=10.0))
    index_trials(past, found.vectors, "run-a", [view.number])
    near, failed = designs_near(found, slow, 3, found.scope)
    assert view.name not in [one.id for one in near]
    assert failed[0].id == view.name and "over the limit" in failed[0].outcome
    assert view.name not in [one.id for one in diverse_best(found, 30)]


def test_equal_designs_count_once_and_rather_from_the_own_run(
    past: Records, open_library: Callable[..., StoredLibrary]
) -> None:
    for run in ("alike", "trained-otherwise"):
        finish(past, run, 7, make_design(ffn=(128, 80)), 0.1)
    found = open_library("same_source")
    for run in ("alike", "trained-otherwise"):
        index_trials(past, found.vectors, run)
    near, _ = designs_near(found, make_design(ffn=(128, 80)), 30, found.scope)
    assert [one.id for one in near if one.distance == 0] == ["run-a/4"]
    assert [one.id for one in near].count("run-a/4") == 1


def test_the_best_come_first_and_are_unlike_each_other(
    past: Records, open_library: Callable[..., StoredLibrary]
) -> None:
    for turn, width in enumerate(range(122, 128)):
        finish(past, "run-a", 60 + turn, make_design(ffn=(width, 128)), 1.0 + 0.01 * turn)
    finish(past, "run-a", 70, make_design(hidden=32, ffn=(32, 32)), 1.5)
    best = diverse_best(open_library("none"), 3)
    assert best[0].loss == 1.0 and best[0].distance == 0
    assert 1.5 in [one.loss for one in best], "the fourth of its neighbours tells less than one from elsewhere"
    without = diverse_best(open_library("none"), 3, {best[0].id})
    assert best[0].id not in [one.id for one in without]


def test_accuracy_is_the_higher_the_better(past: Records, open_library: Callable[..., StoredLibrary]) -> None:
    goal = GoalSettings(objective="accuracy", objective_tasks=("piqa",))
    for turn, accuracy in ((80, 0.3), (81, 0.6), (82, 0.4)):
        finish(past, "run-a", turn, make_design(ffn=(40, turn)), 3.0, {"accuracy": accuracy})
    best = diverse_best(open_library("none", goal=goal), 1)
    assert best[0].outcome.startswith("accuracy 0.600")


def test_lessons_that_fit_come_first(past: Records, open_library: Callable[..., StoredLibrary]) -> None:
    small, large = make_design(ffn=(16, 16)), make_design(ffn=(128, 120))
    for turn, design, loss in ((90, small, 3.0), (91, large, 3.0), (92, small, 4.9)):
        finish(past, "run-a", turn, design, loss, parent_number=0, rationale=[f"Move channels forwards, idea {turn}"])
    found = open_library("none")
    index_trials(past, found.vectors, "run-a")
    size = found.size_of(small)
    ids = [one.id for one in fitting_lessons(found, "move channels forwards", size, 3, found.scope)]
    numbers = [int(id.split("/")[1]) for id in ids]
    assert numbers[0] == 8, "of its size, and it led to a better design"
    best_of_large = fitting_lessons(found, "move channels forwards", found.size_of(large), 1, found.scope)
    assert best_of_large[0].id == "run-a/9/0"


def test_a_wording_counts_once_with_all_that_came_of_it(
    past: Records, open_library: Callable[..., StoredLibrary]
) -> None:
    for turn, loss in ((95, 3.0), (96, 4.5), (97, 4.6)):
        words = "KEEP  the stem wide." if turn % 2 else "Keep the stem wide."
        finish(past, "run-a", turn, make_design(ffn=(turn, 64)), loss, parent_number=0, rationale=[words])
    found = open_library("none")
    index_trials(past, found.vectors, "run-a")
    lessons = fitting_lessons(found, "keep the stem wide", 1.0, 5, found.scope)
    same = [one for one in lessons if plain(one.text) == "keep the stem wide."]
    assert len(same) == 1 and same[0].outcome.endswith("; 1 of 3 such designs were better")
    assert not [
        one
        for one in fitting_lessons(found, "keep the stem wide", 1.0, 5, found.scope, {"keep the stem wide."})
        if "stem" in one.text
    ]


def test_what_was_forgotten_is_not_told(open_library: Callable[..., StoredLibrary]) -> None:
    found = open_library("none")
    assert found.past(["gone/1", "run-a/77"]) == {}
    words = "this lesson is of nobody any more"
    found.vectors.add_lessons([("gone/1/0", words, {"run_id": "run-a", "source": "tiny", "corpus": "docs"})])
    assert [text for _, text, _ in found.worded(words, 1, found.scope)] == [words]
    assert not [one for one in fitting_lessons(found, words, 1.0, 9, found.scope) if one.text == words]


def test_babble_is_no_lesson(past: Records, open_library: Callable[..., StoredLibrary]) -> None:
    babble = (
        "None, 0.6, 0.7, 0.8, 1, 2, skip",
        "...23, 2, 23, 2, 3, 23",
        "wide wide wide wide Wide",
        "{}",
        "ab 1 cd 2 ef 3",
    )
    for turn, words in enumerate(babble):
        finish(past, "run-a", 40 + turn, make_design(ffn=(40, 40 + turn)), 1.0, parent_number=0, rationale=[words])
    found = open_library("none")
    index_trials(past, found.vectors, "run-a")
    for words in babble:
        assert not is_sentence(words)
        told = fitting_lessons(found, words, 1.0, 50, found.scope)
        assert told and not {one.text for one in told} & set(babble)
    for words in (
        "Keep more FFN channels in layers 0-4.",
        "Zwei Schichten weniger, hinten.",
        "narrow the late FFN to 16",
    ):
        assert is_sentence(words)


def test_an_empty_memory_gives_nothing(records: Records, places: tuple[Path, Path], vectors_url: str | None) -> None:
    records.update_run("run-a", source_architecture=make_design().model_dump(mode="json"))
    with open_vectors(*places, records, vectors_url) as store:
        for reach in ("none", "same_source", "all"):
            empty = library(records, store, reach)  # type: ignore[arg-type]
            assert designs_near(empty, make_design(), 3, empty.scope) == ([], [])
            assert diverse_best(empty, 3) == fitting_lessons(empty, "x", 1.0, 3, empty.scope) == []


def test_filters_are_conditions_of_the_store() -> None:
    assert Filter().of_designs() == Filter().of_lessons() == {}
    full = Filter("s", "c", "r", "f", 1, 2, False, "h")
    assert json.loads(json.dumps(full.of_designs())) == {
        "source": "s",
        "corpus": "c",
        "run_id": "r",
        "fidelity": "f",
        "succeeded": False,
        "parameters": {"$gte": 1, "$lte": 2},
        "architecture_hash": {"$ne": "h"},
    }
    assert full.of_lessons() == {"source": "s", "corpus": "c", "run_id": "r"}


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.floats(-9, 9), st.floats(-9, 9)), max_size=8),
    st.integers(-1, 9),
)
def test_diverse_entries_are_distinct_and_begin_with_the_most_relevant(
    rows: list[tuple[int, float, float]], k: int
) -> None:
    relevance, vectors = [row[0] for row in rows], [row[1:] for row in rows]
    chosen = diverse(relevance, vectors, k)
    assert len(chosen) == len(set(chosen)) == max(0, min(k, len(rows)))
    if chosen:
        assert relevance[chosen[0]] == max(relevance)
    assert [relevance[place] for place in diverse(relevance, vectors, k, weight=1.0)] == sorted(relevance)[::-1][
        : max(0, k)
    ]
