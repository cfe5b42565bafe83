"""What was read of rows that are only ever added to a run: a search asks for all of them at every step."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import bindparam, func, select
from sqlmodel import Session, SQLModel

Kept = TypeVar("Kept")
_MOST_RUNS = 4


class _Known(NamedTuple, Generic[Kept]):
    last: int
    rows: tuple[Kept, ...]


class AddedRows(Generic[Kept]):
    """Reads what was added since the last time, for the few runs that were asked for last.

    Args:
        table: has columns `id` and `run_id`; its rows of a run do not change, and all go when the run is forgotten.
        read: what is kept of the rows of a run whose id is above one, in order of their ids, each with that.
    """

    def __init__(self, table: type[SQLModel], read: Callable[[Session, str, int], Sequence[tuple[int, Kept]]]) -> None:
        columns: Any = table
        self._read = read
        self._stamp = select(func.count(columns.id), func.max(columns.id)).where(columns.run_id == bindparam("run"))
        self._runs: dict[str, _Known[Kept]] = {}

    def of(self, session: Session, run_id: str) -> list[Kept]:
        """What is kept of all rows of a run, in order of their ids."""
        count, last = session.connection().execute(self._stamp, {"run": run_id}).one()
        known = self._runs.pop(run_id, _Known(0, ()))
        if (count, last or 0) != (len(known.rows), known.last):
            known = self._with_new(session, run_id, known)
            if len(known.rows) != count:
                # It was forgotten, and imported again.
                known = self._with_new(session, run_id, _Known(0, ()))
        self._runs[run_id] = known
        for oldest in list(self._runs)[:-_MOST_RUNS]:
            self._runs.pop(oldest, None)
        return list(known.rows)

    def _with_new(self, session: Session, run_id: str, known: _Known[Kept]) -> _Known[Kept]:
        rows = self._read(session, run_id, known.last)
        return _Known(rows[-1][0] if rows else known.last, (*known.rows, *(kept for _, kept in rows)))
