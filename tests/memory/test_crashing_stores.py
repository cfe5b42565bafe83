"""Index files with which Chroma ends its process by a signal: the process of the user is never the one that ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from memory import store_check
from memory.progress import CHECKED, MADE_AGAIN
from memory.rebuild import open_vectors
from memory.records import Records
from memory.shared_folder import SharedFolder
from memory.vectors import VectorStore
from tests.memory.conftest import make_design
from tests.memory.test_vector_faults import EXPECTED, hold, index_folders, large
from tests.memory.test_vector_processes import agree

__all__ = ["large"]

ROOT = Path(__file__).parents[2]
Damage = Callable[[Path], None]


def clear_links(index: Path) -> None:
    """Crashes whoever looks for neighbours."""
    (index / "link_lists.bin").write_bytes(bytes((index / "link_lists.bin").stat().st_size))


def clear_half_of_the_links(index: Path) -> None:
    content = (index / "link_lists.bin").read_bytes()
    (index / "link_lists.bin").write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def cut_the_header(index: Path) -> None:
    """Crashes whoever writes; all questions are answered."""
    os.truncate(index / "header.bin", 50)


def spoil_the_header(index: Path) -> None:
    """Divides by nothing when it is loaded."""
    content = (index / "header.bin").read_bytes()
    (index / "header.bin").write_bytes(content[:50] + b"\xff" * 50)


CRASHES = [clear_links, clear_half_of_the_links, cut_the_header, spoil_the_header]


def leave_without_closing(folder: Path) -> None:
    """As a process that was killed leaves it."""
    folder.with_name(f"{folder.name}.open").write_text("open")


def use(folder: Path) -> "subprocess.CompletedProcess[str]":
    """What becomes of a process that asks a store and writes to it."""
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("using.py")), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("damage", CRASHES)
def test_what_crashes_a_process_is_made_again(
    large: tuple[Path, Path], filled: Records, tmp_path: Path, damage: Damage, checks: list[bool]
) -> None:
    for index in index_folders(large[0]):
        damage(index)
    shutil.copytree(large[0], tmp_path / "copy")
    assert use(tmp_path / "copy").returncode in (-signal.SIGSEGV, -signal.SIGFPE, -signal.SIGBUS, -signal.SIGABRT)
    leave_without_closing(large[0])
    told = list[str]()
    with open_vectors(*large, filled, told=lambda what, *_: told.append(what)) as store:
        assert (store.folder, store.counts(), checks) == (large[0], EXPECTED, [False])
        agree(filled, store)
        store.add_lessons([(f"run-b/{index}/0", f"lesson {index}", {}) for index in range(300)])
        assert store.nearest(make_design(), make_design(), 1)[0].id == "run-a/7"
    assert MADE_AGAIN in told


def test_what_is_whole_stays_after_a_kill(large: tuple[Path, Path], filled: Records, checks: list[bool]) -> None:
    with VectorStore(large[0]) as before:
        ids = {name: before.ids(name) for name in before.counts()}
    (large[0] / "witness").touch()
    leave_without_closing(large[0])
    with open_vectors(*large, filled) as store:
        assert checks == [True] and (large[0] / "witness").exists(), "it was not made again"
        assert {name: store.ids(name) for name in store.counts()} == ids
        assert store.lessons("lesson 1100", 1)[0].distance == pytest.approx(0, abs=1e-5)
    with open_vectors(*large, filled):
        assert checks == [True], "what was closed is not checked"


def test_a_check_leaves_no_trace(large: tuple[Path, Path]) -> None:
    def content() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in large[0].parent.rglob("*") if file.is_file()}

    before = content()
    assert store_check.survives(large[0])
    assert content() == before


def test_equal_designs_are_no_damage(filled: Records, places: tuple[Path, Path], checks: list[bool]) -> None:
    """Ways to some of many equal vectors are lost when they are put in once more."""
    with open_vectors(*places, filled) as store:
        rows = [(f"run-b/{index}/0", f"lesson {index % 5}", {}) for index in range(400)]
        store.add_lessons(rows)
    leave_without_closing(places[0])
    with open_vectors(*places, filled) as store:
        assert checks == [True] and store.count("lessons") == 416


def test_a_kill_during_the_check_ends_it_and_the_next_opening_checks_again(
    filled: Records, places: tuple[Path, Path], tmp_path: Path, checks: list[bool]
) -> None:
    open_vectors(*places, filled).close()
    leave_without_closing(places[0])
    owner = hold(tmp_path / "records.db", *places)
    while not (checking := psutil.Process(owner.pid).children()):
        time.sleep(0.01)
    owner.kill()
    owner.communicate(timeout=30)
    _, alive = psutil.wait_procs(checking, timeout=30)
    assert not alive
    with open_vectors(*places, filled) as store:
        assert (store.folder, checks) == (places[0], [True])
        agree(filled, store)


def test_two_at_once_find_a_store_that_crashes(
    large: tuple[Path, Path], filled: Records, tmp_path: Path, checks: list[bool]
) -> None:
    for index in index_folders(large[0]):
        clear_links(index)
    leave_without_closing(large[0])
    owners = [hold(tmp_path / "records.db", large[0], tmp_path / name / "vectors") for name in ("one", "two")]
    said = [owner.stdout.readline().split() for owner in owners if owner.stdout is not None]
    assert sorted(count for _, count in said) == [str(sum(EXPECTED.values()))] * 2
    assert {folder for folder, _ in said} in (
        {str(large[0]), str(tmp_path / "one" / "vectors")},
        {str(large[0]), str(tmp_path / "two" / "vectors")},
    )
    for owner in owners:
        owner.communicate("", timeout=60)
        assert owner.returncode == 0
    with open_vectors(*large, filled) as store:
        assert checks == [], "it was closed in order"
        agree(filled, store)


def test_a_check_that_takes_too_long_is_told_and_given_up(
    filled: Records, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_vectors(*places, filled).close()
    monkeypatch.setattr(store_check, "_SECONDS", 3.0)
    told, shared = list[str](), SharedFolder(places[0])
    # It waits for this lock.
    with shared.busy:
        assert not store_check.survives(places[0], Path(shared.busy.lock_file), lambda: told.append(CHECKED))
    assert told == [CHECKED]


def test_the_folder_of_a_killed_owner_is_checked_by_whoever_comes(
    large: tuple[Path, Path], filled: Records, tmp_path: Path, checks: list[bool]
) -> None:
    owner = hold(tmp_path / "records.db", *large)
    assert owner.stdout is not None and owner.stdout.readline().split()[0] == str(large[0])
    with open_vectors(*large, filled) as copy:
        assert copy.folder == large[1] and checks == [], "what its owner opened in order is copied as it is"
    owner.kill()
    owner.communicate(timeout=30)
    for index in index_folders(large[0]):
        clear_links(index)
    with open_vectors(*large, filled) as store:
        assert (store.folder, checks) == (large[0], [False])
        agree(filled, store)


def test_a_copy_of_what_is_being_opened_is_checked(
    large: tuple[Path, Path], filled: Records, checks: list[bool]
) -> None:
    owner = SharedFolder(large[0]).take()
    assert owner is not None
    for index in index_folders(large[0]):
        clear_links(index)
    with open_vectors(*large, filled) as copy:
        assert (copy.folder, checks) == (large[1], [False])
        agree(filled, copy)
    owner.release(in_order=False)
