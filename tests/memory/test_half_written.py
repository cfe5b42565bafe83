"""What a process was at when it ended is not trusted: it is made again from tables and records, and nothing crashes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from memory.folder_use import FolderUse
from memory.progress import HALF_WRITTEN, MADE_AGAIN, VECTORS
from memory.rebuild import open_vectors, rebuild_vectors
from memory.records import Records
from memory.shared_folder import SharedFolder
from memory.tables import Run
from memory.use_mark import EVERYTHING, UseMark
from memory.vectors import VectorStore
from tests.memory.conftest import CountedEmbedding, finish, make_design
from tests.memory.test_vector_faults import EXPECTED, hold
from tests.memory.test_vector_processes import agree, remembering, walk

if TYPE_CHECKING:
    pass

ROOT = Path(__file__).parents[2]
Damage = Callable[[Path], None]
Places = tuple[Path, Path]


def clear_links(index: Path) -> None:
    """Crashes whoever looks for neighbours."""
    (index / "link_lists.bin").write_bytes(bytes((index / "link_lists.bin").stat().st_size))


def cut_the_header(index: Path) -> None:
    """Crashes whoever writes; all questions are answered."""
    os.truncate(index / "header.bin", 50)


def spoil_the_header(index: Path) -> None:
    """Divides by nothing when it is loaded."""
    content = (index / "header.bin").read_bytes()
    (index / "header.bin").write_bytes(content[:50] + b"\xff" * 50)


def empty_a_file(index: Path) -> None:
    """As a process leaves it that has opened it to write it anew."""
    (index / "data_level0.bin").write_bytes(b"")


def mark_of(places: Places) -> Path:
    return places[0].with_name("vectors.open")


def written(folder: Path) -> list[Path]:
    """The indexes that Chroma has written to the disk: those of the lessons."""
    return [file.parent for file in folder.glob("*/index_metadata.pickle")]


def leave_in(places: Places, *parts: str) -> None:
    """As a process leaves the folder that is killed while it uses these parts."""
    mark = UseMark(mark_of(places))
    mark.write(parts)
    mark.close()


def opened(places: Places, records: Records, told: list[str] | None = None) -> VectorStore:
    return open_vectors(*places, records, told=lambda what, *_: None if told is None else told.append(what))


@pytest.fixture
def large(filled: Records, places: Places) -> Places:
    """A closed store with so many lessons that Chroma has written their index to the disk."""
    filled.create_run(Run(id="run-b", source_architecture=make_design().model_dump(mode="json")))
    for turn in range(6):
        lessons = [f"lesson {turn} {line}" for line in range(100)]
        finish(filled, "run-b", turn, make_design(ffn=(16, turn + 1)), 1.0 + turn, rationale=lessons)
    with open_vectors(*places, filled) as store:
        agree(filled, store)
    assert len(written(places[0])) == 1
    return places


def use(folder: Path) -> "subprocess.CompletedProcess[str]":
    """What becomes of a process that asks a store and writes to it."""
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("using.py")), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("damage", [clear_links, cut_the_header, empty_a_file, shutil.rmtree])
def test_what_was_in_use_is_put_back_from_its_table(large: Places, filled: Records, damage: Damage) -> None:
    (index,) = written(large[0])
    if damage in (clear_links, cut_the_header):
        shutil.copytree(large[0], large[0].with_name("copy"))
        damage(large[0].with_name("copy") / index.name)
        assert use(large[0].with_name("copy")).returncode < 0, "a signal ended it"
    damage(index)
    leave_in(large, "lessons")
    embedding, told = CountedEmbedding(), list[tuple[str, int, int]]()
    with open_vectors(*large, filled, embedding=embedding, told=lambda *words: told.append(words)) as store:
        assert not index.exists(), "the index itself is gone"
        agree(filled, store)
        walk(store)
        assert store.lessons("lesson 5 99", 1)[0].distance == pytest.approx(0, abs=1e-5)
        assert embedding.texts == ["lesson 5 99"], "no text is embedded again"
        store.add_lessons([(f"run-c/{number}/0", f"lesson {number}", {}) for number in range(300)])
    assert told == [(HALF_WRITTEN, 0, 0), (VECTORS, 616, 616)]
    assert not mark_of(large).exists()


def test_what_was_not_in_use_stays(large: Places, filled: Records) -> None:
    (index,), told = written(large[0]), list[str]()
    before = {file: file.stat().st_mtime_ns for file in index.iterdir()}
    leave_in(large)
    with opened(large, filled, told) as store:
        agree(filled, store)
    leave_in(large, "architectures")
    with opened(large, filled, told) as store:
        agree(filled, store)
    assert {file: file.stat().st_mtime_ns for file in index.iterdir()} == before
    assert told == [HALF_WRITTEN, VECTORS], "of the designs that went well"


def test_what_the_table_lacks_comes_from_the_records(large: Places, filled: Records) -> None:
    (rows,) = large[0].glob("lessons*.rows")
    os.truncate(rows, rows.stat().st_size // 2)
    notes = rows.with_suffix(".notes")
    content = notes.read_bytes()
    notes.write_bytes(content[:100] + b"?" * 50 + content[150:])
    leave_in(large, "lessons", "prompts")
    embedding = CountedEmbedding()
    with open_vectors(*large, filled, embedding=embedding) as store:
        agree(filled, store)
        assert store.count("prompts") == 1
    assert len(set(embedding.texts)) > 300
    with open_vectors(*large, filled) as store:
        walk(store)
        assert store.lessons("lesson 0 0", 1)[0].text == "lesson 0 0"


@pytest.mark.parametrize("damage", [clear_links, spoil_the_header])
def test_who_died_while_opening_leaves_that_in_doubt(large: Places, filled: Records, damage: Damage) -> None:
    """The files of a store that was closed in order are damaged from outside: one process ends, and no other."""
    (index,) = written(large[0])
    damage(index)
    owner = hold(large[0].with_name("records.db"), *large)
    owner.communicate("", timeout=60)
    assert -owner.returncode in (signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS, signal.SIGABRT)
    assert UseMark(mark_of(large)).read() == {"lessons"}
    embedding, told = CountedEmbedding(), list[str]()
    with open_vectors(*large, filled, embedding=embedding, told=lambda what, *_: told.append(what)) as store:
        agree(filled, store)
        walk(store)
    assert told[0] == HALF_WRITTEN and MADE_AGAIN not in told
    assert not embedding.texts


def test_who_dies_while_it_writes_leaves_that_in_doubt(large: Places, filled: Records) -> None:
    """Chroma ends this process in the middle of a write."""
    cut_the_header(written(large[0])[0])
    writer = remembering(large[0].parent, "run-c", 20, 60)
    writer.communicate(timeout=120)
    assert writer.returncode < 0
    assert UseMark(mark_of(large)).read() == {"lessons"}
    told = list[str]()
    with opened(large, filled, told) as store:
        agree(filled, store)
        walk(store)
    assert told[:2] == [HALF_WRITTEN, VECTORS]


def test_a_machine_that_went_down_leaves_all_in_doubt(
    large: Places, filled: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it wrote last may be lost."""
    leave_in(large)
    started = psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: started + 60)
    (index,), told = written(large[0]), list[str]()
    with opened(large, filled, told) as store:
        agree(filled, store)
    assert told[0] == HALF_WRITTEN and not index.exists()


@pytest.mark.parametrize("content", ["", "open", "nonsense \0", "1"])
def test_a_mark_that_nobody_has_written_is_no_vouching(places: Places, content: str) -> None:
    mark_of(places).write_text(content)
    assert UseMark(mark_of(places)).read() == {EVERYTHING}


def test_a_kill_while_it_is_mended_leaves_it_to_the_next(
    large: Places, filled: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_in(large, "lessons")

    class Killed(BaseException):
        pass

    def kill(what: str, *_: int) -> None:
        if what == VECTORS:
            raise Killed

    with pytest.raises(Killed):
        open_vectors(*large, filled, told=kill)
    assert UseMark(mark_of(large)).read() == {"lessons"}
    told = list[str]()
    with opened(large, filled, told) as store:
        agree(filled, store)
        walk(store)
    assert told[0] == HALF_WRITTEN


def test_a_copy_of_what_is_in_doubt_is_mended(large: Places, filled: Records) -> None:
    owner = SharedFolder(large[0]).take()
    assert owner is not None
    owner.note({"lessons"})
    clear_links(written(large[0])[0])
    with opened(large, filled) as copy:
        assert copy.folder == large[1]
        agree(filled, copy)
        walk(copy)
    owner.release(in_order=False)
    with opened(large, filled) as store:
        assert store.folder == large[0]
        agree(filled, store)
        walk(store)


def test_the_folder_of_a_killed_owner_goes_to_whoever_comes(large: Places, filled: Records) -> None:
    owner = hold(large[0].with_name("records.db"), *large)
    assert owner.stdout is not None and owner.stdout.readline().split()[0] == str(large[0])
    with opened(large, filled) as copy:
        assert copy.folder == large[1]
    owner.kill()
    owner.communicate(timeout=30)
    assert UseMark(mark_of(large)).read() == frozenset() and mark_of(large).exists()
    told = list[str]()
    with opened(large, filled, told) as store:
        assert (store.folder, told) == (large[0], []), "it was doing nothing"


def test_two_at_once_find_a_store_in_doubt(large: Places, filled: Records, tmp_path: Path) -> None:
    clear_links(written(large[0])[0])
    leave_in(large, EVERYTHING)
    owners = [hold(tmp_path / "records.db", large[0], tmp_path / name / "vectors") for name in ("one", "two")]
    said = [owner.stdout.readline().split() for owner in owners if owner.stdout is not None]
    expected = sum(EXPECTED.values()) + 606
    assert [count for _, count in said] == [str(expected)] * 2
    assert str(large[0]) in {folder for folder, _ in said}
    for owner in owners:
        owner.communicate("", timeout=60)
        assert owner.returncode == 0
    with opened(large, filled) as store:
        agree(filled, store)


def test_nothing_is_left_of_indexes_that_are_gone(large: Places, filled: Records) -> None:
    """Chroma leaves their files."""
    (large[0] / "of somebody else").mkdir()
    with opened(large, filled) as store:
        for _again in range(2):
            rebuild_vectors(filled, store)
            assert (large[0] / "of somebody else").is_dir()


class Panic(BaseException):
    """What Chroma raises where it has a fault of its own is no `Exception` either."""


@pytest.mark.parametrize(
    ("error", "doubtful"),
    [(KeyboardInterrupt, set()), (SystemExit, set()), (OSError, {"lessons"}), (Panic, {"lessons"})],
)
def test_what_fails_is_in_doubt_and_what_is_interrupted_is_not(
    places: Places, error: type[BaseException], doubtful: set[str]
) -> None:
    claim = SharedFolder(places[0]).take()
    assert claim is not None
    use, mark = FolderUse(claim, ("lessons", "prompts")), UseMark(mark_of(places))
    with use.of("prompts"):
        assert mark.read() == {"prompts"}
    with pytest.raises(error), use.of("lessons"):
        assert mark.read() == {"lessons"}
        raise error
    assert mark.read() == doubtful
    use.end()
    assert mark.read() == doubtful and mark_of(places).exists() == bool(doubtful)
    assert SharedFolder(places[0]).take() is not None, "it is free again"
