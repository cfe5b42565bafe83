"""The database below the records: opening, migrating, and short transactions whose failures are one sentence."""

import hashlib
import platform
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Insert, Table, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlmodel import Session, SQLModel, create_engine

from memory.migrations import upgrade
from memory.records_place import RecordsPlace
from memory.values import storable, to_json
from tools.addresses import without_password
from tools.errors import InputError
from tools.failures import FULL_DISK, is_full_disk

# Any constant does; it only has to be the same in every process that migrates.
_MIGRATION_LOCK = 7304962
LOCK_SECONDS = 30.0
"""How long a transaction waits for another process that has the file locked."""
_LOOK_AGAIN_SECONDS = 0.01


class Database:
    """An engine, and transactions on it. Use `open`."""

    def __init__(self, engine: Engine, place: str) -> None:
        self.engine = engine
        self.place = place

    @classmethod
    def open(cls, path_or_url: str | Path | RecordsPlace) -> Self:
        """Open, make or migrate the records at a SQLite file or a database URL.

        Raises:
            InputError: the place cannot be read or written, is no database, or was written by a newer version.
        """
        address = str(path_or_url)
        is_url = "://" in address
        place = address if is_url else str(Path(address).expanduser())
        try:
            url = make_url(address) if is_url else make_url("sqlite://").set(database=place)
            place = url.render_as_string(hide_password=True) if is_url else place
            if url.drivername == "postgresql":
                # The driver that Penjing installs, where the URL names none.
                url = url.set(drivername="postgresql+psycopg")
            if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
                Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(url, json_serializer=to_json)
        except (ArgumentError, NoSuchModuleError, ValueError) as error:
            raise InputError(
                f"{without_password(address)!r} is no database URL; give a file name, or one like "
                "postgresql://USER@HOST/NAME"
            ) from error
        except ModuleNotFoundError as error:
            raise InputError(
                f"the driver {error.name} of the database {place} is missing; install it with pip"
            ) from error
        except OSError as error:
            raise InputError(
                f"the folder of the records {place} cannot be made ({error.strerror}); choose another place"
            ) from error
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        try:
            with engine.execution_options(immediate=True).begin() as connection:
                if engine.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
                upgrade(connection)
        except DatabaseError as error:
            engine.dispose()
            if _is_locked(error):
                raise _locked(place) from error
            raise InputError(
                f"the records {place} cannot be opened ({_cause(error)}); check the place, or choose another"
            ) from error
        except CommandError as error:
            engine.dispose()
            raise InputError(
                f"the records {place} do not fit this version of Penjing ({error}); update it, or choose another place"
            ) from error
        return cls(engine, place)

    @property
    def identity(self) -> str:
        """Letters and digits that tell these records from others on one server: from the place where they are."""
        place = self.place if "://" in self.place else f"{platform.node()}:{Path(self.place).absolute()}"
        return f"r{hashlib.sha256(place.encode()).hexdigest()[:12]}"

    def close(self) -> None:
        """Let go of the database. Closing twice is harmless."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _immediate(self) -> Engine:
        """Its transactions have the write lock from their start."""
        return self.engine.execution_options(immediate=True)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A read-only transaction."""
        with self._named_failures(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that has the write lock from its start and commits at its end.

        SQLite refuses at once, whatever its timeout, to let a transaction write that read before another's commit.
        """
        with (
            self._named_failures(),
            self._put_off() as put_off,
            Session(self._immediate, expire_on_commit=False) as session,
            session.begin(),
        ):
            if put_off is not None:
                put_off(session.connection())
            yield session

    @contextmanager
    def stating(self) -> Iterator[Connection]:
        """As `writing`, for single statements without rows that are followed."""
        with self._named_failures(), self._put_off() as put_off, self._immediate.begin() as connection:
            if put_off is not None:
                put_off(connection)
            yield connection

    @contextmanager
    def _put_off(self) -> Iterator[Callable[[Connection], None] | None]:
        """Writes what was put off until something is written, if anything was; it stays put off where that fails."""
        yield None

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            if isinstance(error.orig, sqlite3.Error) and is_full_disk(error.orig):
                raise InputError(f"{FULL_DISK} The records {self.place} have all that was said to be done.") from error
            if _is_locked(error):
                raise _locked(self.place) from error
            raise InputError(
                f"the records {self.place} could not be used ({_cause(error)}); "
                "check that the disk has room and the place can be written"
            ) from error


def insert_if_new(session: Session, row: SQLModel, *unique: str) -> None:
    """INSERT .. ON CONFLICT (unique columns) DO NOTHING; the row stays out of the session."""
    given_by_database = set() if "id" in unique else {"id"}
    # What is left out is NULL, or what the table has for it.
    given = row.model_dump(exclude=given_by_database)
    values = storable({name: value for name, value in given.items() if value is not None})
    session.connection().execute(_insert_if_new(type(row), unique, session.get_bind().dialect.name), values)


@cache
def _insert_if_new(kind: type[SQLModel], unique: tuple[str, ...], dialect: str) -> Insert:
    table: Table = kind.__table__  # type: ignore[attr-defined]
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing(index_elements=unique)


def change(row: SQLModel, fields: dict[str, Any]) -> None:
    """Set fields of a row that is in a session; one that the table lacks is an AttributeError, not dropped."""
    unknown = fields.keys() - type(row).model_fields.keys()
    if unknown:
        raise AttributeError(f"{type(row).__name__} has no {', '.join(sorted(unknown))}")
    row.sqlmodel_update(storable(fields))


def _prepare_sqlite(engine: Engine) -> None:
    """Write-ahead log, durable against a killed process, and transactions that begin as they are asked to."""

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # Python's own implicit BEGIN is deferred; `begin` below takes its place.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * LOCK_SECONDS)}")
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Let the file have a write-ahead log. Of two processes that give a new file one, SQLite refuses one at once."""
    patience = time.monotonic() + LOCK_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > patience:
                raise
            time.sleep(_LOOK_AGAIN_SECONDS)


def _is_locked(error: DatabaseError) -> bool:
    return isinstance(error.orig, sqlite3.OperationalError) and "locked" in str(error.orig)


def _locked(place: str) -> InputError:
    return InputError(
        f"the records {place} were locked by another process for {LOCK_SECONDS:g} s, and nothing was written; see what "
        "has the file open, and try again"
    )


def _cause(error: DatabaseError) -> str:
    """The driver's own words, without SQLAlchemy's statement and link."""
    return str(error.orig).strip() or type(error.orig).__name__
