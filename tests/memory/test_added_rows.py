"""What is kept of a run's rows: read once, and anew where they are other ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import Session, col, select

from memory.added_rows import AddedRows
from memory.records import Records
from memory.tables import Run, RunEvent


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records.open(tmp_path / "records.sqlite") as opened:
        opened.create_run(Run(id="run-a"))
        yield opened


def test_only_what_is_new_is_read_and_what_was_forgotten_is_read_anew(records: Records) -> None:
    asked: list[int] = []

    def read(session: Session, run_id: str, after: int) -> list[tuple[int, str]]:
        asked.append(after)
        query = select(RunEvent).where(RunEvent.run_id == run_id, col(RunEvent.id) > after)
        return [(row.id, row.kind) for row in session.exec(query.order_by(col(RunEvent.id)))]

    kept = AddedRows(RunEvent, read)

    def kinds() -> list[str]:
        with records.reading() as session:
            return kept.of(session, "run-a")

    assert kinds() == [] and asked == []
    records.add_event("run-a", "one", {})
    records.add_event("run-a", "two", {})
    assert kinds() == kinds() == ["one", "two"] and asked == [0]
    records.add_event("run-a", "three", {})
    assert kinds() == ["one", "two", "three"] and asked == [0, 2]
    with records.writing() as session:
        for row in session.exec(select(RunEvent)):
            session.delete(row)
    assert kinds() == []
    # The database gives the same ids again.
    records.add_event("run-a", "other", {})
    assert kinds() == ["other"]
