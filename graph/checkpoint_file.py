"""The SQLite file of a run's checkpoints: its failures in one sentence, and what to do with a file that is damaged.

A checkpoint says only where a search stood; what it has asked, answered and measured is in the records. So a damaged
file is no loss: it is set aside, and the search goes through its turns again and finds all that was paid for.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from tools.errors import InputError
from tools.failures import FULL_DISK, is_full_disk

SERIALIZER = JsonPlusSerializer(allowed_msgpack_modules=None)
"""Makes plain values and LangGraph's own types of what is stored, and nothing else, whatever it asks for."""
LOCK_SECONDS = 30.0
"""How long a write waits for another process that has the file locked."""
_LOG = "-wal"
_PARTS = ("", _LOG, "-shm")


class FileSaver(SqliteSaver):
    """LangGraph's checkpoints in a SQLite file, for a graph that is run by asyncio.

    A write takes less time than to hand it to the thread that LangGraph's own saver for asyncio has, and back.
    """

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.get_tuple(config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        for found in self.list(config, filter=filter, before=before, limit=limit):
            yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self.put(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.put_writes(config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        self.delete_thread(thread_id)


@contextmanager
def open_checkpoint_file(path: Path) -> Iterator[FileSaver]:
    """The checkpoints in the file `path`, which is made where it is not there.

    Raises InputError where the file is locked for too long or cannot be written, now or on the way.
    """
    try:
        # LangGraph's saver has a lock of its own.
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, check_same_thread=False)) as connection:
            # Durable against a killed process, as the records are: they would lag behind after a power cut otherwise.
            connection.execute("PRAGMA synchronous = NORMAL")
            yield FileSaver(connection, serde=SERIALIZER)
    except sqlite3.Error as error:
        raise _told(error, path) from error


def _told(error: sqlite3.Error, path: Path) -> InputError:
    if is_full_disk(error):
        return InputError(f"{FULL_DISK} The checkpoints {path} stand at the last step that was finished.")
    if "locked" in str(error):
        return InputError(
            f"The checkpoints {path} were locked by another process for {LOCK_SECONDS:g} s; see what has the file "
            "open, and resume."
        )
    return InputError(
        f"The checkpoints {path} cannot be used ({error}); see that the place can be written, and resume."
    )


async def set_aside_if_damaged(path: Path) -> str:
    """Move a file that cannot be read out of the way; what was done, in words, and nothing where the file is whole."""
    aside = await asyncio.to_thread(_set_aside_if_damaged, path)
    if aside is None:
        return ""
    return (
        f"the checkpoints were damaged and are set aside as {aside.name}: the search goes through its turns again, and "
        "finds what it has asked and measured in the records"
    )


def _set_aside_if_damaged(path: Path) -> Path | None:
    if not path.is_file() or _is_whole(path):
        return None
    aside = path.with_name(f"{path.name}.damaged")
    for part in _PARTS:
        source = path.with_name(path.name + part)
        if source.exists():
            source.replace(aside.with_name(aside.name + part))
    return aside


def _is_whole(path: Path) -> bool:
    """Whether the pages of the file are sound and the newest checkpoints in it can be read."""
    try:
        connection = sqlite3.connect(path, timeout=LOCK_SECONDS)
        try:
            if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
                return False
            newest = connection.execute("SELECT type, checkpoint FROM checkpoints ORDER BY checkpoint_id DESC LIMIT 1")
            writes = connection.execute("SELECT type, value FROM writes ORDER BY checkpoint_id DESC LIMIT 1")
            for row in (*newest, *writes):
                SERIALIZER.loads_typed(row)
        finally:
            connection.close()
    except sqlite3.OperationalError:
        # Locked, or nothing in it yet: for whoever opens it to say.
        return True
    except (sqlite3.DatabaseError, ValueError, TypeError, KeyError, NotImplementedError):
        return False
    return True
