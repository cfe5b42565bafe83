"""What records do on PostgreSQL alone; the other tests of records run on both, by `tests.postgresql.both_databases`."""

import time

import pytest
from alembic import command
from sqlalchemy import text

from memory.migrations import configuration
from memory.records import Records
from memory.run_lock import run_held
from memory.tables import Run
from tests.memory import test_processes
from tests.postgresql import Server
from tools.errors import InputError


def test_migrations_and_tables_agree(postgresql: Server) -> None:
    with Records.open(postgresql.database()) as records, records.engine.begin() as connection:
        command.check(configuration(connection))
        command.downgrade(configuration(connection), "base")
        command.upgrade(configuration(connection), "head")
        command.check(configuration(connection))


def test_processes_that_make_the_tables_at_once_write_at_once(postgresql: Server) -> None:
    url = postgresql.database("template0")
    processes = [test_processes.writer(url, f"run-{index}", 20) for index in range(2)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    with Records.open(url) as records:
        for index, (keys, _) in enumerate(said):
            assert [view.evaluation_key for view in records.trials(f"run-{index}")] == keys.split()


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"postgresql://me:\*\*\*@localhost:9/x cannot be opened") as caught:
        Records.open("postgresql://me:secret@localhost:9/x")
    assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="no database URL") as caught:
        Records.open("postgresql://me:secret@localhost:port/x")
    assert "secret" not in str(caught.value)


def test_a_run_belongs_to_one_process_of_all_machines(postgresql: Server) -> None:
    url = postgresql.database()
    with Records.open(url) as one, Records.open(url) as other, run_held(one, "run-a"):
        with pytest.raises(InputError, match="run-a is being worked on by another process, here or on another machine"):
            with run_held(other, "run-a"):
                pass
        with run_held(other, "run-b"):
            other.create_run(Run(id="run-b"))
    with Records.open(url) as one, run_held(one, "run-a"), one.engine.connect() as connection:
        held = connection.execute(text("SELECT pid FROM pg_locks WHERE locktype = 'advisory'")).scalars().all()
        assert len(held) == 1
        # As when the machine that had it is gone.
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": held[0]})
        with Records.open(url) as other:
            until = time.monotonic() + 30
            while True:
                try:
                    with run_held(other, "run-a"):
                        break
                except InputError:
                    assert time.monotonic() < until
                    time.sleep(0.05)
