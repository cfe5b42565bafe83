"""Records under several processes, and under processes that are killed while they write."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import memory.database
from memory.records import Records
from memory.tables import Run
from tests.locker import locked
from tests.postgresql import NewDatabase, both_databases
from tools.errors import InputError

new_database = both_databases
ROOT = Path(__file__).parents[2]


def writer(database: Path | str, run_id: str, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("writer.py")), str(database), run_id, str(count)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_write_at_once(new_database: NewDatabase) -> None:
    database = new_database()
    processes = [writer(database, f"run-{index}", 60) for index in range(2)]
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    with Records.open(database) as records:
        for index, (keys, _) in enumerate(said):
            views = records.trials(f"run-{index}")
            assert [view.number for view in views] == list(range(60))
            assert [view.evaluation_key for view in views] == keys.split()


def test_records_that_another_process_has_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.database, "LOCK_SECONDS", 0.2)
    Records.open(tmp_path / "records.db").close()
    with locked(tmp_path / "records.db"):
        with pytest.raises(InputError, match=r"were locked by another process for 0\.2 s, and nothing was written"):
            Records.open(tmp_path / "records.db")
    with Records.open(tmp_path / "records.db") as records:
        with locked(tmp_path / "records.db"):
            with pytest.raises(InputError, match="locked by another process"):
                records.create_run(Run(id="run-a"))
            assert records.runs() == [], "reading is not kept from anybody"
        records.create_run(Run(id="run-a"))
        assert [run.id for run in records.runs()] == ["run-a"]


def test_new_records_that_two_open_at_once(tmp_path: Path) -> None:
    """SQLite refuses one of them the write-ahead log at once, and not only after its timeout."""
    path = tmp_path / "records.db"
    with locked(path):
        opening = threading.Thread(target=lambda: Records.open(path).close())
        opening.start()
        opening.join(0.3)
        assert opening.is_alive(), "it waits"
    opening.join(30)
    with Records.open(path) as records:
        assert records.runs() == []


def test_new_records_that_another_process_has_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.database, "LOCK_SECONDS", 0.2)
    with locked(tmp_path / "records.db"):
        started = time.monotonic()
        with pytest.raises(InputError, match=r"were locked by another process for 0\.2 s, and nothing was written"):
            Records.open(tmp_path / "records.db")
        assert time.monotonic() - started > 0.2


def test_nothing_acknowledged_is_lost_to_kill_9(new_database: NewDatabase) -> None:
    database = new_database()
    delays = random.Random(0)
    for round_ in range(3):
        process = writer(database, f"run-{round_}", 100_000)
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(2)]
        time.sleep(delays.uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        # `communicate` would pass over what was read ahead. The last line may have been cut by the kill.
        rest = process.stdout.read()
        process.communicate(timeout=30)
        acknowledged += rest[: rest.rfind("\n") + 1].split()
        assert process.returncode == -signal.SIGKILL
        with Records.open(database) as records:
            views = [view for view in records.trials(f"run-{round_}") if view.measurement]
            assert [view.evaluation_key for view in views][: len(acknowledged)] == acknowledged
            if records.engine.dialect.name == "sqlite":
                with records.engine.connect() as connection:
                    assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
