"""Tables of vectors find what comparing with everything finds, and are only a quicker way to what Chroma has."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import vector_tables
from memory.conditions import meets
from memory.lower_bounds import LowerBounds
from memory.progress import TABLE_ROWS
from memory.rebuild import open_vectors, reconcile_vectors
from memory.records import Records
from memory.table_files import TableFiles, files_of
from memory.vector_table import VectorTable
from memory.vectors import VectorStore
from tests.memory.conftest import make_design

EXPECTED = {"architectures": 7, "failures": 1, "lessons": 16, "prompts": 1}
CONDITIONS: tuple[dict[str, Any], ...] = (
    {},
    {"source": "s1"},
    {"source": "s1", "parameters": {"$gte": 20, "$lt": 60}},
    {"fidelity": {"$in": ["quick", "long"]}},
    {"fidelity": {"$nin": ["quick"]}, "parameters": {"$ne": 7}},
    {"corpus": {"$ne": "c0"}, "parameters": {"$gt": 1}},
    {"run_id": "nobody"},
)


def rows(count: int, dimensions: int, seed: int = 0) -> tuple[list[str], Any, list[dict[str, Any]]]:
    """Vectors near a plane, some of them equal; metadata of which some lack."""
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(count, 3)) @ chance.normal(size=(3, dimensions))
    vectors += 0.1 * chance.normal(size=vectors.shape)
    vectors[count // 2 : count // 2 + 3] = vectors[0]
    metadatas: list[dict[str, Any]] = []
    for row in range(count):
        known = {"source": f"s{row % 3}", "corpus": f"c{row % 2}", "fidelity": ("quick", "long", "full")[row % 3]}
        known |= {"parameters": int(chance.integers(100)), "run_id": f"r{row // 5}"}
        metadatas.append({key: value for key, value in known.items() if chance.random() < 0.9})
    return [f"r{row // 5}/{row}" for row in range(count)], vectors.astype(np.float32), metadatas


def exact(asked: Any, vectors: Any, euclidean: bool) -> Any:
    if euclidean:
        return ((vectors.astype(np.float64) - asked) ** 2).sum(axis=1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return 1 - unit.astype(np.float64) @ asked / np.linalg.norm(asked)


@pytest.mark.parametrize("euclidean", [True, False])
@pytest.mark.parametrize("where", CONDITIONS)
@pytest.mark.parametrize("count", [1, 30, 1500])
def test_it_finds_what_comparing_with_everything_finds(
    tmp_path: Path, euclidean: bool, where: dict[str, Any], count: int
) -> None:
    ids, vectors, metadatas = rows(count, 24)
    table = VectorTable(tmp_path / "t", 24, euclidean)
    for start in range(0, count, 400):
        table.upsert(ids[start : start + 400], vectors[start : start + 400], metadatas[start : start + 400])
        table.search(1, {}, vectors[0])
    fitting = [row for row in range(count) if meets(metadatas[row], where)]
    for asked in (vectors[count // 2], np.random.default_rng(9).normal(size=24)):
        found = table.search(7, where, asked)
        distances = np.sort(exact(asked, vectors, euclidean)[fitting])[:7]
        assert [one.distance for one in found] == pytest.approx(distances.tolist(), abs=1e-6)
        for one in found:
            at = ids.index(one.id)
            assert at in fitting and one.metadata == metadatas[at]
    table.close()


@given(st.integers(4, 40), st.integers(1, 300), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_bounds_are_below_distances(dimensions: int, count: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    squares = np.vecdot(vectors.astype(np.float64), vectors.astype(np.float64))
    bounds = LowerBounds(dimensions)
    for known in (max(1, count // 9), max(1, count // 8), count):
        sketches = bounds.sketches(squares[:known], lambda start, stop: vectors[start:stop])
        assert sketches.shape == (known, dimensions // 4 + 1)
        below = squares[:known] + squares[0] - 2 * sketches @ bounds.sketch(vectors[0], squares[0])
        distances = ((vectors[:known].astype(np.float64) - vectors[0]) ** 2).sum(axis=1)
        assert (below <= distances + 1e-5 * (squares[:known] + squares[0])).all()


def test_rows_are_put_over_those_of_their_ids_and_taken_out(tmp_path: Path) -> None:
    ids, vectors, metadatas = rows(20, 8)
    table = VectorTable(tmp_path / "t", 8, True)
    table.upsert(ids, vectors, metadatas)
    table.upsert([ids[3], ids[4], ids[3]], vectors[[5, 4, 6]], [{"source": "x"}, metadatas[4], {"source": "new"}])
    table.delete([ids[0], "nobody/1"])
    for _opening in range(2):
        assert len(table) == 19 and table.ids() == set(ids[1:])
        assert [(one.id, one.distance) for one in table.search(1, {"source": "new"}, vectors[6])] == [(ids[3], 0.0)]
        table.close()
        table = VectorTable(tmp_path / "t", 8, True)
    table.delete(ids[:15])
    table.close()
    notes = files_of(tmp_path / "t")[2].read_bytes()
    assert ids[15].encode() in notes and ids[9].encode() not in notes
    emptied = VectorTable(tmp_path / "t", 8, True)
    assert (len(emptied), files_of(tmp_path / "t")[0].stat().st_size) == (0, 0), "most counted no more"
    emptied.close()


def test_conditions_that_it_cannot_tell(tmp_path: Path) -> None:
    table = VectorTable(tmp_path / "t", 8, True)
    assert all(table.answers(where) for where in CONDITIONS)
    for where in ({"name": "x"}, {"source": {"$gt": "a"}}, {"parameters": 1.5}, {"source": {"$in": [None]}}):
        assert not table.answers(where)
    table.close()


@pytest.mark.parametrize("cut", [1, 40, 2000])
@pytest.mark.parametrize("kind", range(3))
def test_rows_that_were_not_wholly_written_are_not_there(tmp_path: Path, kind: int, cut: int) -> None:
    ids, vectors, metadatas = rows(60, 16)
    table = VectorTable(tmp_path / "t", 16, True)
    table.upsert(ids, vectors, metadatas)
    table.close()
    files = files_of(tmp_path / "t")
    # Of the vectors the file is longer than they are.
    ends = (files[0].stat().st_size, 60 * 16 * 4, files[2].stat().st_size)
    os.truncate(files[kind], max(0, ends[kind] - cut))
    table = VectorTable(tmp_path / "t", 16, True)
    left = [one.id for one in table.search(60, {}, vectors[0])]
    assert len(left) == len(table) < 60 and set(left) <= set(ids)
    missing = [row for row in range(60) if ids[row] not in left]
    table.upsert([ids[row] for row in missing], vectors[missing], [metadatas[row] for row in missing])
    assert {one.id for one in table.search(60, {}, vectors[0])} == set(ids)
    table.close()


def tables_of(store: VectorStore) -> dict[str, int]:
    assert store._tables is not None
    return {name: len(table) for name, table in store._tables._tables.items()}


def answers(store: VectorStore) -> Any:
    here = make_design()
    near = [(one.id, round(one.distance, 5)) for one in store.nearest(here, here, 8)]
    lessons = store.lessons("narrow the late FFN to 96", 3)
    # Of those that are as far away any may be named.
    return sorted(near), lessons[0].id, [round(one.distance, 5) for one in lessons]


def test_tables_are_filled_and_emptied_with_their_collections(
    filled: Records, places: tuple[Path, Path], store: VectorStore
) -> None:
    assert tables_of(store) == {"architectures": 7, "failures": 1, "lessons": 16, "prompts": 1}
    store.delete("architectures", ["run-a/7"])
    assert tables_of(store)["architectures"] == 6
    assert reconcile_vectors(filled, store) and tables_of(store)["architectures"] == 7
    with open_vectors(*places, filled) as copy:
        assert copy.folder == places[1] and tables_of(copy) == tables_of(store)
        assert answers(copy) == answers(store)
    store.wipe()
    assert tables_of(store) == {"architectures": 0, "failures": 0, "lessons": 0, "prompts": 0}


def lose(files: list[Path]) -> None:
    for file in files:
        file.unlink()


def cut_in_half(files: list[Path]) -> None:
    for file in files:
        os.truncate(file, file.stat().st_size // 2)


def spoil_all(files: list[Path]) -> None:
    for file in files:
        file.write_bytes(os.urandom(file.stat().st_size))


def spoil_notes(files: list[Path]) -> None:
    for file in files:
        if file.suffix == ".notes":
            file.write_bytes(b"\xff" * file.stat().st_size)


def put_a_folder_there(files: list[Path]) -> None:
    for file in files:
        file.unlink()
        if file.suffix == ".rows":
            (file / "inside").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [lose, cut_in_half, spoil_all, spoil_notes, put_a_folder_there])
def test_a_damaged_table_is_made_again_or_done_without(
    filled: Records, places: tuple[Path, Path], spoil: Callable[[list[Path]], None]
) -> None:
    with open_vectors(*places, filled) as store:
        before = answers(store)
    spoil([file for kind in ("rows", "vectors", "notes") for file in places[0].glob(f"*.{kind}")])
    for _opening in range(2):
        with open_vectors(*places, filled) as store:
            assert store.counts() == EXPECTED and answers(store) == before
            store.delete("architectures", ["run-a/7"])
            assert reconcile_vectors(filled, store)
    if spoil is not put_a_folder_there:
        with open_vectors(*places, filled) as store:
            assert tables_of(store) == {"architectures": 7, "failures": 1, "lessons": 16, "prompts": 1}


def test_tables_that_are_filled_tell_how_far_they_are(
    filled: Records, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_vectors(*places, filled).close()
    lose([file for kind in ("rows", "vectors", "notes") for file in places[0].glob(f"*.{kind}")])
    monkeypatch.setattr(vector_tables, "_BATCH", 10)
    told = list[tuple[str, int, int]]()
    open_vectors(*places, filled, told=lambda *words: told.append(words)).close()
    assert told == [
        (TABLE_ROWS, 7, 7),
        (TABLE_ROWS, 1, 1),
        (TABLE_ROWS, 10, 16),
        (TABLE_ROWS, 16, 16),
        (TABLE_ROWS, 1, 1),
    ]


def test_what_would_be_too_large_is_left_to_chroma(
    filled: Records, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_vectors(*places, filled) as store:
        before = answers(store)
        monkeypatch.setattr(vector_tables, "_LARGEST", 16 * 256 * 4)
        store.add_lessons([("run-b/0/0", "one more lesson than there is room for", {"run_id": "run-b"})])
        assert "lessons" not in tables_of(store) and "architectures" in tables_of(store)
        assert store.lessons("one more lesson than there is room for", 1)[0].id == "run-b/0/0"
        assert not list(places[0].glob("lessons*.rows"))
        store.delete("lessons", ["run-b/0/0"])
        assert answers(store) == before
    with open_vectors(*places, filled) as store:
        assert tables_of(store)["lessons"] == 16, "there is room for them again"
        assert answers(store) == before


def test_a_full_disk_leaves_chroma(filled: Records, store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    before = answers(store)
    monkeypatch.setattr(TableFiles, "_write", refuse)
    store.add_lessons([("run-b/0/0", "written nowhere but in Chroma", {"run_id": "run-b"})])
    assert store.lessons("written nowhere but in Chroma", 1)[0].id == "run-b/0/0"
    store.delete("lessons", ["run-b/0/0"])
    assert answers(store) == before
