"""Whether a folder of vectors can be used: tried in a process of its own, since damaged index files end a process.

Chroma writes its index in place. A process that is killed meanwhile leaves files that do not fit together, and these
can end the next process that reads them, or that writes to them, with a signal that nothing can catch. So after such
an end `python -m memory.store_check FOLDER BUSY` does first all that could: it loads each index, walks through the
whole of it, and writes to it until Chroma writes it to the disk again. It does so to a copy, since entries that are put
in once more can lose their neighbours.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from memory.chroma_client import SYNC_THRESHOLD, BrokenStoreError, open_folder
from tools.lifeline import die_with_parent

if TYPE_CHECKING:
    import chromadb

_SECONDS, _BYTES_PER_SECOND = 60.0, 2_000_000
# What takes a moment need not be told.
_TOLD_AFTER_SECONDS = 2.0
_ADDED = [f"check/{number}" for number in range(8)]


def survives(folder: Path, busy: Path | None = None, on_wait: Callable[[], None] = lambda: None) -> bool:
    """Whether a process that reads and writes all of `folder` comes to a good end. It ends with this process.

    It has the lock `busy` for that long. `on_wait` is called where it takes longer than a moment. It may take as long
    as the folder would take to be made again, and not longer: then that is the quicker way.
    """
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    limit = _SECONDS + size / _BYTES_PER_SECOND
    process = subprocess.Popen(
        # -P: a folder named like one of ours in the working directory must not be imported.
        [sys.executable, "-P", "-m", "memory.store_check", str(folder), *([] if busy is None else [str(busy)])],
        # Its lifeline.
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Ctrl-C is for this process, which may put off its end; the other must not seem to have crashed.
        start_new_session=True,
    )
    started = time.monotonic()
    try:
        try:
            return process.wait(_TOLD_AFTER_SECONDS) == 0
        except subprocess.TimeoutExpired:
            on_wait()
        return process.wait(max(0.0, limit - (time.monotonic() - started))) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(_copy_of(folder), ignore_errors=True)


def check(folder: Path) -> None:
    """Use all of a copy of a folder, beside it.

    Raises:
        BrokenStoreError: it cannot be used.
        OSError: it cannot be copied.
    """
    from chromadb.errors import ChromaError

    copy = _copy_of(folder)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    client = open_folder(copy)
    try:
        for collection in client.list_collections():
            if count := collection.count():
                _walk(collection, count)
                _write(collection, count)
                _walk(collection, count)
    except (ChromaError, ValueError) as error:
        raise BrokenStoreError(f"the vectors in {folder} cannot be used ({error})") from error
    finally:
        client.close()


def _copy_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.check")


def _walk(collection: "chromadb.Collection", count: int) -> None:
    """Ask for all neighbours of one entry: the way to them leads past every entry that a way leads to."""
    first = np.asarray(collection.get(limit=1, include=["embeddings"])["embeddings"])
    collection.query(query_embeddings=first, n_results=count, include=[])


def _write(collection: "chromadb.Collection", count: int) -> None:
    """Put the newest entries in once more, and some of them under other names, which are taken out again."""
    newest: Any = collection.get(
        limit=SYNC_THRESHOLD, offset=max(0, count - SYNC_THRESHOLD), include=["embeddings", "metadatas"]
    )
    vectors = np.asarray(newest["embeddings"])
    some = vectors[-len(_ADDED) :]
    collection.upsert(ids=_ADDED[: len(some)], embeddings=some)
    collection.upsert(ids=newest["ids"], embeddings=vectors, metadatas=newest["metadatas"])
    collection.delete(ids=_ADDED)


def main(arguments: list[str]) -> None:
    """Check a folder, with a lock held; ends with 0 where it can be used."""
    die_with_parent()
    folder, *busy = map(Path, arguments)
    if not busy:
        check(folder)
        return
    with FileLock(busy[0]):
        check(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
