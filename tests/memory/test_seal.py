"""A folder that is as it was closed is opened without Chroma's indexes; one that is not is looked through."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from memory.open_collections import COLLECTIONS
from memory.rebuild import open_vectors
from memory.records import Records
from memory.vectors import VectorStore
from tests.memory.conftest import make_design
from tests.memory.test_vector_faults import EXPECTED
from tests.memory.test_vector_processes import agree, walk

Places = tuple[Path, Path]


@pytest.fixture
def closed(filled: Records, places: Places) -> Places:
    open_vectors(*places, filled).close()
    return places


@pytest.fixture
def probed(closed: Places, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The collections whose index was loaded to look through it, from now on."""
    found, real = list[str](), VectorStore._probe

    def probe(store: VectorStore, name: str) -> int:
        found.append(name)
        return real(store, name)  # type: ignore[arg-type]

    monkeypatch.setattr(VectorStore, "_probe", probe)
    return found


def test_what_is_as_it_was_closed_loads_no_index(closed: Places, filled: Records, probed: list[str]) -> None:
    for _again in range(2):
        with open_vectors(*closed, filled) as store:
            assert store.counts() == EXPECTED
            assert store.nearest(make_design(), make_design(), 1)[0].id == "run-a/7"
    with open_vectors(*closed, filled) as store:
        store.add_lessons([("run-b/0/0", "written first", {}), ("run-b/0/1", "written too", {})])
        store.delete("lessons", ["run-b/0/0"])
        walk(store)
        assert store.lessons("written too", 1)[0].id == "run-b/0/1"
        assert store.counts() == {**EXPECTED, "lessons": 17}
        store.delete("lessons", ["run-b/0/1"])
    with open_vectors(*closed, filled) as store:
        assert not probed
        agree(filled, store)
        walk(store)


def longer(folder: Path) -> None:
    with (folder / "chroma.sqlite3").open("ab") as file:
        file.write(bytes(4096))


def later(folder: Path) -> None:
    os.utime(next(folder.glob("*/header.bin")))


def shorter(folder: Path) -> None:
    os.truncate(next(folder.glob("lessons*.notes")), 5)


def more(folder: Path) -> None:
    (folder / "new").touch()


def no_seal(folder: Path) -> None:
    (folder / "sealed.json").unlink()


def half_a_seal(folder: Path) -> None:
    content = (folder / "sealed.json").read_bytes()
    (folder / "sealed.json").write_bytes(content[: len(content) // 2])


def no_object(folder: Path) -> None:
    (folder / "sealed.json").write_text("[]")


def moved(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("copy"), copy_function=shutil.copyfile)
    shutil.rmtree(folder)
    folder.with_name("copy").rename(folder)


@pytest.mark.parametrize("change", [longer, later, shorter, more, no_seal, half_a_seal, no_object, moved])
def test_what_has_changed_is_looked_through(
    closed: Places, filled: Records, probed: list[str], change: Callable[[Path], None]
) -> None:
    change(closed[0])
    with open_vectors(*closed, filled) as store:
        assert probed == list(COLLECTIONS)
        agree(filled, store)


def test_what_was_written_before_a_kill_is_looked_through(
    closed: Places, filled: Records, probed: list[str], tmp_path: Path
) -> None:
    """The seal of before is of other files."""
    with open_vectors(*closed, filled) as store:
        store.add_lessons([("run-b/0/0", "in no record", {})])
        shutil.copytree(closed[0], tmp_path / "copy")
    shutil.rmtree(closed[0])
    (tmp_path / "copy").rename(closed[0])
    with open_vectors(*closed, filled):
        assert probed == list(COLLECTIONS)
