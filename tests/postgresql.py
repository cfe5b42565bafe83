"""A real PostgreSQL server for tests, on a socket in its own folder; tests are skipped where there is none."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NewDatabase = Callable[[], str]
"""Makes a place for records, with or without the tables, and gives its file name or URL."""

PROGRAMS = ("initdb", "pg_ctl")
_NAMES = itertools.count()

# Where Debian keeps them, away from the search path.
_SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])


class Server:
    """A server of this test session; `database()` makes a database and gives its URL."""

    def __init__(self, url: str) -> None:
        from memory.records import Records

        self._url = url
        Records.open(self.database("template0", "tables")).close()

    def database(self, template: str = "tables", name: str = "") -> str:
        """A new database: as `template`, by default one with all tables of records and no rows."""
        name = name or f"d{next(_NAMES)}"
        self._administer(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._url.format(name=name)

    def drop(self, url: str) -> None:
        """Each takes 8 MB; what is still connected is cut off."""
        name = url.removeprefix(self._url.partition("{")[0]).partition("?")[0]
        self._administer(f"DROP DATABASE {name} WITH (FORCE)")

    def _administer(self, statement: str) -> None:
        from psycopg import connect

        with connect(self._url.format(name="postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """One server for all tests of this process that ask for one."""
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    with running_server() as url:
        yield Server(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def both_databases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewDatabase]:
    """Every test that asks for it runs twice: what it makes are SQLite files, and then databases of a server."""
    if request.param == "sqlite":
        yield lambda: new_file(tmp_path)
        return
    server: Server = request.getfixturevalue("postgresql")
    made: list[str] = []

    def make() -> str:
        made.append(server.database())
        return made[-1]

    yield make
    for url in made:
        server.drop(url)


def new_file(folder: Path) -> str:
    """A file for new records: records.db, and others where that is taken."""
    name = "records.db" if not (folder / "records.db").exists() else f"records{next(_NAMES)}.db"
    return str(folder / name)


@contextmanager
def running_server() -> Iterator[str]:
    """The beginning of its URLs, to which the name of a database comes: `postgresql://.../{name}?host=...`."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_SEARCHED) is None]
    if missing:
        pytest.skip(f"there is no PostgreSQL here: {', '.join(missing)} not found")
    # PostgreSQL refuses to run as root, and pytest's own folders are closed to others.
    folder = Path(tempfile.mkdtemp(prefix="penjing-pg-"))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = {"user": "postgres", "group": user.pw_gid, "extra_groups": [], "cwd": folder}
    try:
        data = str(folder / "data")
        _run(["initdb", "-D", data, "-U", "penjing", "-A", "trust", "-E", "UTF8", "--no-sync"], as_user)
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        _run(["pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start"], as_user)
        stop = [str(shutil.which("pg_ctl", path=_SEARCHED)), "-D", data, "-m", "immediate", "stop"]
        with _at_the_end(stop, folder, as_user):
            yield f"postgresql://penjing@/{{name}}?host={folder}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_LAST_WORDS = """
import shutil, subprocess, sys
sys.stdin.read()
subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


@contextmanager
def _at_the_end(command: list[str], folder: Path, as_user: dict[str, Any]) -> Iterator[None]:
    """Runs the command and deletes the folder when the block ends, also where the tests are killed in it."""
    arguments = ["/usr/bin/env", "python3", "-c", _LAST_WORDS, str(folder), *command]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, start_new_session=True, **as_user)
    try:
        yield
    finally:
        # The end of its input, which also comes when this process is gone.
        process.communicate()


def _run(command: list[str], as_user: dict[str, Any]) -> None:
    # Its children keep the output open.
    program = str(shutil.which(command[0], path=_SEARCHED))
    silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([program, *command[1:]], check=True, timeout=120, **silent, **as_user)
