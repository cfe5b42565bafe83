"""What records do on SQLite alone: its settings, a full disk, and what is deleted leaves the file."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from memory.records import Records
from memory.views import TrialView
from tools.architecture import Architecture
from tools.errors import InputError

Finish = Callable[..., TrialView]
Design = Callable[..., Architecture]


def test_a_full_disk_is_one_sentence_and_loses_nothing(records: Records, design: Design, finish_trial: Finish) -> None:
    finish_trial(records, "run-a", 0, design(), 1.0)
    with records.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite keeps to the pages that there are already
    before = records.trials("run-a")
    with pytest.raises(InputError, match=r"disk is full"):
        records.add_prompt("h", "big", "x" * 1_000_000)
    assert records.trials("run-a") == before


def test_foreign_keys_and_the_log_are_on(records: Records, tmp_path: Path) -> None:
    with records.engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 30000}
    raw = sqlite3.connect(tmp_path / "records.db")
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()
