"""Where LangGraph keeps the checkpoints of a run: a SQLite file in the run's folder, or a PostgreSQL database."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from graph.checkpoint_file import SERIALIZER, open_checkpoint_file
from graph.folder import RunFolder
from tools.addresses import with_password, without_password
from tools.errors import InputError

if TYPE_CHECKING:
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

VARIABLE = "PENJING_CHECKPOINTS"
"""A run's record has the address without a password; this has the whole of it."""

# Any constant does; it only has to be the same in every process that makes the tables.
_TABLES_LOCK = 7304963
_RETRY_SECONDS = 0.1


@asynccontextmanager
async def open_checkpoints(folder: RunFolder, url: str | None) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """The checkpoints of all runs at `url`, or, without one, of the run in `folder`.

    Raises InputError where the file or the server cannot be used, or fails on the way, or its driver is missing.
    """
    if url is None:
        with open_checkpoint_file(folder.checkpoints) as saver_of_file:
            yield saver_of_file
        return
    try:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg import Error
    except ImportError as error:
        raise InputError(
            "Checkpoints in PostgreSQL need penjing's postgresql extra: pip install '.[postgresql]'."
        ) from error
    try:
        async with AsyncPostgresSaver.from_conn_string(with_password(url, VARIABLE), serde=SERIALIZER) as saver:
            await _make_tables(saver)
            yield saver
    except Error as error:
        raise InputError(
            f"The checkpoints in {without_password(url)} cannot be used ({_reason(error)}); once they can, the run "
            "goes on from the last one."
        ) from error


def forget_checkpoints(folder: RunFolder, url: str | None, run_id: str) -> None:
    """Take the checkpoints of a run out of a database; those in its folder go with that. Raises InputError as above."""
    if url is None:
        return

    async def forget() -> None:
        async with open_checkpoints(folder, url) as saver:
            await saver.adelete_thread(run_id)

    # A notebook's thread has a loop that runs already.
    with ThreadPoolExecutor(max_workers=1) as threads:
        threads.submit(asyncio.run, forget()).result()


async def _make_tables(saver: "AsyncPostgresSaver") -> None:
    # A statement that waits for the lock would keep the other process from building its indexes: ask again instead.
    connection: Any = saver.conn
    while True:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s) AS got", (_TABLES_LOCK,))
        if (await cursor.fetchone())["got"]:
            break
        await asyncio.sleep(_RETRY_SECONDS)
    try:
        await saver.setup()
    finally:
        await connection.execute("SELECT pg_advisory_unlock(%s)", (_TABLES_LOCK,))


def _reason(error: Exception) -> str:
    """The server's own words in one line."""
    return " ".join(str(error).split()) or type(error).__name__
