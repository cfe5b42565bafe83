"""Records of what happened in a run, in the order in which its user was told."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert
from sqlmodel import col, select

from memory.database import Database
from memory.tables import RunEvent, now
from memory.values import storable

_ADD = insert(RunEvent)


class EventRecords(Database):
    """Events are only ever added. A step that a killed process had begun is told again when the run goes on."""

    def add_event(self, run_id: str, kind: str, payload: Mapping[str, Any], trial: int | None = None) -> None:
        """Write an event down."""
        # A row as an object would take longer to make than to write.
        row = {"run_id": run_id, "kind": kind, "trial": trial, "payload": storable(dict(payload)), "created_at": now()}
        with self.stating() as connection:
            connection.execute(_ADD, row)

    def events(self, run_id: str, kind: str | None = None) -> list[RunEvent]:
        """The events of a run in the order in which they happened: all, or those of one kind."""
        query = select(RunEvent).where(RunEvent.run_id == run_id)
        if kind is not None:
            query = query.where(RunEvent.kind == kind)
        with self.reading() as session:
            return list(session.exec(query.order_by(col(RunEvent.id))))

    def last_event(self, run_id: str, kind: str) -> RunEvent | None:
        """The last event of this kind; None where there was none."""
        query = select(RunEvent).where(RunEvent.run_id == run_id, RunEvent.kind == kind)
        with self.reading() as session:
            return session.exec(query.order_by(col(RunEvent.id).desc()).limit(1)).first()
