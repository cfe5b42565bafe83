"""The library in memory finds what the one in the vector store finds."""

from functools import partial
from pathlib import Path

from memory.embeddings import embed_architecture
from memory.exact_library import ExactLibrary
from memory.filters import Filter
from memory.rebuild import open_vectors
from memory.recall import Here, recollect
from memory.records import Records
from memory.stored_library import StoredLibrary
from tests.memory.conftest import make_design
from tools.architecture import Architecture
from tools.settings import GoalSettings


def test_both_give_the_same(filled: Records, places: tuple[Path, Path]) -> None:
    reference = make_design()
    exact: ExactLibrary[Architecture] = ExactLibrary(partial(embed_architecture, reference=reference))
    with open_vectors(*places, filled) as store:
        stored = StoredLibrary(filled, store, "run-a", GoalSettings(), reference, (1, 10**9), "none")
        for view in filled.trials("run-a"):
            exact.add(stored.past([view.name])[view.name], view.rationale)
        for number in (0, 3, 6):
            view = filled.trial("run-a", number)
            here = Here(view.name, view.identity, view.architecture, 0.8, "narrow the late FFN to 64")
            for lessons in (True, False):
                ours, theirs = (
                    recollect(library, here, 3, scope, lessons)  # type: ignore[arg-type]
                    for library, scope in ((exact, Filter()), (stored, stored.scope))
                )
                assert [row["id"] for row in ours.listed()] == [row["id"] for row in theirs.listed()]
                assert bool(ours.lessons) == lessons
                ids = [row["id"] for row in ours.listed() if row["kind"] != "lessons"]
                assert len(ids) == len(set(ids)) and view.name not in ids


def test_an_empty_one_gives_nothing() -> None:
    empty: ExactLibrary[Architecture] = ExactLibrary(partial(embed_architecture, reference=make_design()))
    here = Here("run/1", "hash", make_design(), 1.0, "words")
    assert not recollect(empty, here, 3, Filter())
