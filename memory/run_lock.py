"""The right to work on a run whose records are on a server: one process of all machines has it at a time."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from memory.database import Database
from tools.errors import InputError

# A machine that lost its power is noticed by the server after a minute, not after hours.
_KEEPALIVE = ("SET tcp_keepalives_idle = 30", "SET tcp_keepalives_interval = 10", "SET tcp_keepalives_count = 3")


@contextmanager
def run_held(records: Database, run_id: str) -> Iterator[None]:
    """Have the run until the block ends or this process does; on SQLite the lock in the run's folder is enough.

    Raises:
        InputError: another process has it, perhaps on another machine, or the server cannot be reached.
    """
    if records.engine.dialect.name != "postgresql":
        yield
        return
    try:
        # Taken out of the pool: the lock lives as long as its connection.
        connection = records.engine.connect()
        connection.detach()
        for statement in _KEEPALIVE:
            connection.execute(text(statement))
        got = connection.execute(text("SELECT pg_try_advisory_lock(:number)"), {"number": _number(run_id)}).scalar()
        connection.commit()
    except DBAPIError as error:
        reason = " ".join(str(error.orig).split())
        raise InputError(f"the records {records.place} could not be used ({reason})") from error
    try:
        if not got:
            raise InputError(
                f"Run {run_id} is being worked on by another process, here or on another machine; wait for it or stop "
                "it first."
            )
        yield
    finally:
        connection.invalidate()
        connection.close()


def _number(run_id: str) -> int:
    digest = hashlib.sha256(f"penjing run {run_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
