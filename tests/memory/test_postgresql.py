"""The records on a real PostgreSQL: the tests of records that any database has to pass, and what only a server does."""

import inspect
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine

from memory.migrations import configuration
from memory.rebuild import open_vectors
from memory.records import Records
from memory.tables import Run
from tests.memory import test_patterns, test_processes, test_records, test_wordings
from tests.memory.postgresql import running_server
from tools.architecture import Architecture
from tools.errors import InputError

pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")

_NAMES = itertools.count()
_OF_SQLITE = {"test_a_full_disk_is_one_sentence_and_loses_nothing", "test_foreign_keys_and_the_log_are_on"}
_FIXTURE = type(test_patterns.run)

for _module in (test_records, test_patterns, test_wordings):
    for _name, _value in vars(_module).items():
        if isinstance(_value, _FIXTURE):
            globals()[_name] = _value
        elif _name.startswith("test_") and _name not in _OF_SQLITE and inspect.isfunction(_value):
            _asked = set(inspect.signature(_value).parameters)
            if _asked & {"records", "run", "worded"} and "tmp_path" not in _asked:
                globals()[f"{_module.__name__.rpartition('.')[2]}_{_name.removeprefix('test_')}"] = _value


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server() as url:
        _create(url, "empty", "template0")
        Records.open(url.format(name="empty")).close()
        yield url


@pytest.fixture
def url(server: str) -> str:
    """Of a database that has all tables and no rows."""
    return _create(server, f"records{next(_NAMES)}", "empty")


@pytest.fixture
def records(url: str) -> Iterator[Records]:
    with Records.open(url) as opened:
        opened.create_run(Run(id="run-a", source="tiny", corpus="docs"))
        yield opened


def _create(server: str, name: str, template: str) -> str:
    engine = create_engine(
        server.format(name="postgres").replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    engine.dispose()
    return server.format(name=name)


def test_migrations_and_tables_agree(records: Records) -> None:
    with records.engine.begin() as connection:
        command.check(configuration(connection))
        command.downgrade(configuration(connection), "base")
        command.upgrade(configuration(connection), "head")
        command.check(configuration(connection))


def test_processes_that_make_the_tables_at_once_write_at_once(server: str) -> None:
    url = _create(server, "together", "template0")
    processes = [test_processes.writer(url, f"run-{index}", 20) for index in range(2)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    with Records.open(url) as records:
        for index, (keys, _) in enumerate(said):
            assert [view.evaluation_key for view in records.trials(f"run-{index}")] == keys.split()


def test_vectors_are_made_from_it(
    filled: Records, places: tuple[Path, Path], design: Callable[..., Architecture]
) -> None:
    with open_vectors(*places, filled) as store:
        assert (
            store.counts()
            == filled.indexed_counts()
            == {"architectures": 7, "failures": 1, "lessons": 16, "prompts": 1}
        )
        assert store.nearest(design(), design(), 1)[0].id == "run-a/7"


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"postgresql://me:\*\*\*@localhost:9/x cannot be opened") as caught:
        Records.open("postgresql://me:secret@localhost:9/x")
    assert "secret" not in str(caught.value)
