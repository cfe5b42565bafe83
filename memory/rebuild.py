"""The vector store from the records: opening it, making it again, and keeping the two equal."""

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from memory.chroma_client import BrokenStoreError
from memory.indexing import index_prompts, index_trials
from memory.records import Records
from memory.text_embedding import HASHED, TextEmbedding
from memory.vector_collections import COLLECTIONS, CollectionName
from memory.vectors import VectorStore
from tools.errors import InputError

__all__ = ["index_prompts", "index_trials", "open_vectors", "rebuild_vectors", "reconcile_vectors"]

_BATCH = 1000  # trials in memory at a time
_BUSY_SECONDS = 60.0
"""How long one change of the store may take while another process waits to copy it."""
_NEWEST = 50
_DESIGNS: tuple[CollectionName, ...] = ("architectures", "failures")
Told = Callable[[int, int], None]
"""Hears of long work: how much is done, and of how much."""


def open_vectors(
    shared_folder: Path,
    private_folder: Path,
    records: Records,
    url: str | None = None,
    embedding: TextEmbedding = HASHED,
    told: Told | None = None,
) -> VectorStore:
    """The vector store in `shared_folder`, or on the Chroma server at `url`, brought in line with the records.

    A folder that is missing, broken or incomplete, or whose last opening ended the process, is made again. While
    another store has the shared folder, in this process or in another, a copy in `private_folder` takes its place, and
    is removed when it is closed. A server is shared by all who use it, each set of records with its own collections.
    `told` hears how many of the missing trials were put in, and of how many.

    Raises:
        InputError: neither folder can be used, the server cannot be reached, or texts cannot be embedded.
    """
    if url is not None:
        return _reconciled(VectorStore(url, embedding=embedding, prefix=f"{records.identity}-"), records, told)
    lock = FileLock(shared_folder.with_name(f"{shared_folder.name}.lock"), blocking=False)
    busy = FileLock(shared_folder.with_name(f"{shared_folder.name}.busy"), timeout=_BUSY_SECONDS)
    try:
        shared_folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        folder, temporary = shared_folder, False
    except Timeout:
        _copy(shared_folder, private_folder, busy)
        folder, temporary = private_folder, True
    except OSError as error:
        raise InputError(
            f"the folder of the vectors {shared_folder} cannot be used ({error.strerror}); choose another place"
        ) from error

    def opened() -> VectorStore:
        held, still = (None, None) if temporary else (lock, busy)
        return _reconciled(VectorStore(folder, held, temporary, embedding, busy=still), records, told)

    # Damaged index files can crash the whole process, beyond any exception: the next opening finds this mark.
    opening = folder.with_name(f"{folder.name}.opening")
    try:
        if opening.exists():
            shutil.rmtree(folder, ignore_errors=True)
        opening.parent.mkdir(parents=True, exist_ok=True)
        opening.touch()
        try:
            store = opened()
        except BrokenStoreError:
            shutil.rmtree(folder)
            store = opened()
        opening.unlink()
        return store
    except (OSError, BrokenStoreError) as error:
        lock.release()
        raise InputError(
            f"the vectors in {folder} are broken and cannot be made again ({error}); choose another place"
        ) from error
    except InputError:
        opening.unlink(missing_ok=True)
        lock.release()
        raise


def _copy(shared: Path, private: Path, busy: FileLock) -> None:
    """What the owner of the shared folder has written so far; nothing where it cannot be had, so that all is filled."""
    shutil.rmtree(private, ignore_errors=True)
    try:
        with busy:
            shutil.copytree(shared, private)
    except (OSError, shutil.Error):  # Timeout is an OSError
        shutil.rmtree(private, ignore_errors=True)


def _reconciled(store: VectorStore, records: Records, told: Told | None) -> VectorStore:
    try:
        reconcile_vectors(records, store, told)
    except InputError:
        store.detach()
        raise
    return store


def rebuild_vectors(records: Records, store: VectorStore) -> None:
    """Empty the store and fill it from the records."""
    store.wipe()
    reconcile_vectors(records, store)


def reconcile_vectors(records: Records, store: VectorStore, told: Told | None = None) -> bool:
    """Compare counts and the newest; where they differ, add what the store lacks, take out what the records lack.

    Lessons are not counted: they go in before their designs, and what could not be put in is marked.
    Returns whether anything had to be done.
    """
    counts = store.counts()
    designs = counts["architectures"] + counts["failures"]
    if (designs, counts["prompts"]) == (records.indexed_designs(), records.prompt_count()):
        newest = records.newest_indexed(_NEWEST)
        if sum(len(store.ids(name, newest)) for name in _DESIGNS) == len(newest):
            return False
    # The store first: what is put in meanwhile was in the records before.
    present = {name: store.ids(name) for name in COLLECTIONS}
    trials = records.indexed_trials()
    names = {f"{run_id}/{number}": lines for run_id, numbers in trials.items() for number, lines in numbers.items()}
    prompts = records.prompts()
    for name in _DESIGNS:
        store.delete(name, present[name] - names.keys())
    store.delete("lessons", present["lessons"] - {f"{name}/{line}" for name, n in names.items() for line in range(n)})
    designs_there, lacking = present["architectures"] | present["failures"], list[tuple[str, int]]()
    for run_id, numbers in trials.items():
        lacking += [
            (run_id, number)
            for number, lines in numbers.items()
            if f"{run_id}/{number}" not in designs_there
            or any(f"{run_id}/{number}/{line}" not in present["lessons"] for line in range(lines))
        ]
    for start in range(0, len(lacking), _BATCH):
        batch: dict[str, list[int]] = {}
        for run_id, number in lacking[start : start + _BATCH]:
            batch.setdefault(run_id, []).append(number)
        store.add_trials([one for run_id, some in batch.items() for one in records.indexable_trials(run_id, some)])
        if told is not None:
            told(min(start + _BATCH, len(lacking)), len(lacking))
    index_prompts(store, [prompt for prompt in prompts if prompt.hash not in present["prompts"]])
    # Last, since the mark that something is missing is among them.
    store.delete("prompts", present["prompts"] - {prompt.hash for prompt in prompts})
    return True
