"""The vector store after damage: it is made again from the records, and only one process ever has a folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from memory.chroma_client import BrokenStoreError
from memory.rebuild import open_vectors
from memory.records import Records
from memory.vectors import VectorStore
from tests.memory.conftest import CountedEmbedding, make_design
from tools.architecture import Architecture
from tools.errors import InputError

Design = Callable[..., Architecture]
ROOT = Path(__file__).parents[2]
EXPECTED = {"architectures": 7, "failures": 1, "lessons": 16, "prompts": 1}


def spoil_database(folder: Path) -> None:
    (folder / "chroma.sqlite3").write_bytes(os.urandom(50_000))


def spoil_half(folder: Path) -> None:
    content = (folder / "chroma.sqlite3").read_bytes()
    (folder / "chroma.sqlite3").write_bytes(content[: len(content) // 2])


def spoil_middle(folder: Path) -> None:
    content = bytearray((folder / "chroma.sqlite3").read_bytes())
    content[len(content) // 4 : len(content) // 2] = os.urandom(len(content) // 2 - len(content) // 4)
    (folder / "chroma.sqlite3").write_bytes(content)


def empty_database(folder: Path) -> None:
    (folder / "chroma.sqlite3").write_bytes(b"")


def lose_database(folder: Path) -> None:
    (folder / "chroma.sqlite3").unlink()


def put_a_file_there(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "chroma.sqlite3").mkdir()


@pytest.mark.parametrize(
    "spoil", [shutil.rmtree, spoil_database, spoil_half, spoil_middle, empty_database, lose_database, put_a_file_there]
)
def test_a_broken_folder_is_made_again(
    filled: Records, places: tuple[Path, Path], design: Design, spoil: Callable[[Path], None]
) -> None:
    open_vectors(*places, filled).close()
    spoil(places[0])
    embedding = CountedEmbedding()
    with open_vectors(*places, filled, embedding=embedding) as store:
        assert (store.counts(), store.folder) == (EXPECTED, places[0])
        assert store.nearest(design(), design(), 1)[0].id == "run-a/7"
    # Where our tables are there no text is embedded again: a server asks for money.
    assert bool(embedding.texts) == (spoil in (shutil.rmtree, put_a_file_there))


def index_folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and any(path.iterdir())]


@pytest.fixture
def large(filled: Records, places: tuple[Path, Path]) -> tuple[Path, Path]:
    """A closed store with so many entries that Chroma has written an index to the disk."""
    with open_vectors(*places, filled) as store:
        store.add_lessons([(f"run-b/{index}/0", f"lesson {index}", {}) for index in range(1200)])
    assert index_folders(places[0])
    return places


def test_a_lost_index_is_noticed(large: tuple[Path, Path], filled: Records) -> None:
    for folder in index_folders(large[0]):
        shutil.rmtree(folder)
    with pytest.raises(BrokenStoreError, match="cannot be read"):
        VectorStore(large[0])
    with open_vectors(*large, filled) as store:
        assert store.counts() == EXPECTED
        assert len(store.lessons("narrow the late FFN", 16)) == 16


@pytest.mark.parametrize(
    "name", ["data_level0.bin", "header.bin", "length.bin", "link_lists.bin", "index_metadata.pickle"]
)
def test_an_index_file_of_no_length_is_noticed(large: tuple[Path, Path], filled: Records, name: str) -> None:
    emptied = [file for file in large[0].glob(f"*/{name}") if file.with_name("index_metadata.pickle").is_file()]
    assert emptied and all(file.stat().st_size for file in emptied)
    for file in emptied:
        file.write_bytes(b"")
    with pytest.raises(BrokenStoreError, match=f"{name} is empty"):
        VectorStore(large[0])
    with open_vectors(*large, filled) as store:
        assert store.counts() == EXPECTED, "made again from the records, so without what these do not have"
        assert len(store.lessons("narrow the late FFN", 16)) == 16
        assert len(store.nearest(make_design(), make_design(), 9)) == 8


def test_a_second_store_gets_the_private_folder(store: VectorStore, filled: Records, places: tuple[Path, Path]) -> None:
    shared, private = places
    private.mkdir(parents=True)
    (private / "left over").write_text("from a run that was killed")
    with open_vectors(shared, private, filled) as second:
        assert (second.folder, second.counts()) == (private, EXPECTED)
        assert not (private / "left over").exists()
    assert not private.exists()


def test_a_killed_owner_leaves_the_folder_to_the_next(
    filled: Records, tmp_path: Path, places: tuple[Path, Path]
) -> None:
    owner = hold(tmp_path / "records.db", *places)
    assert owner.stdout is not None
    assert owner.stdout.readline().split() == [str(places[0]), str(sum(EXPECTED.values()))]
    with open_vectors(*places, filled) as meanwhile:
        assert meanwhile.folder == places[1]
    owner.kill()
    owner.communicate(timeout=30)
    with open_vectors(*places, filled) as after:
        assert (after.folder, after.counts()) == (places[0], EXPECTED)


def test_an_unusable_folder_is_one_sentence(filled: Records, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="choose another place"):
        open_vectors(tmp_path / "file" / "vectors", tmp_path / "private", filled)
    with pytest.raises(InputError, match="choose another place"):
        open_vectors(tmp_path / "file", tmp_path / "private", filled)


def hold(*arguments: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("holder.py")), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
