"""Records of spans: a row when a stretch of work begins, changed once when it ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from threading import Lock
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, insert, update
from sqlmodel import col, select

from memory.database import Database
from memory.tables import Span
from memory.values import storable

_BEGIN = insert(Span)
_LASTING = {"status": "running", "message": "", "ended_at": None}


class SpanBegin(NamedTuple):
    """What is said of a span at its start; see `tables.Span`. A row of that would take longer to make than to write."""

    id: str
    run_id: str
    name: str
    kind: str
    started_at: datetime
    attributes: dict[str, Any]
    parent_id: str | None = None
    turn: int | None = None
    trial: int | None = None
    call_id: int | None = None


class SpanEnd(NamedTuple):
    """What is said of a span at its end; see `tables.Span`."""

    status: str
    ended_at: datetime
    attributes: dict[str, Any]
    message: str = ""
    turn: int | None = None
    trial: int | None = None
    call_id: int | None = None


_END = (
    update(Span)
    .where(col(Span.id) == bindparam("span_id"))
    .values({name: bindparam(f"its_{name}") for name in SpanEnd._fields})
)


class _Waiting:
    """Rows of spans that began, and columns of spans that ended, by id, in their order."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.begun: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, dict[str, Any]] = {}


class SpanRecords(Database):
    """There are a dozen spans to a trial, most of them short: they are written with whatever else is written next.

    Who traces calls `write_spans` every now and then. A killed process leaves rows without an end, and has lost what
    it did after it wrote last.
    """

    @cached_property
    def _spans(self) -> _Waiting:
        return _Waiting()

    def begin_span(self, begin: SpanBegin) -> None:
        """Say that a span began."""
        row = storable(begin._asdict()) | _LASTING
        with self._spans.lock:
            self._spans.begun[begin.id] = row

    def end_span(self, span_id: str, end: SpanEnd) -> None:
        """Say how a span ended. One that is not there, since its run was forgotten meanwhile, stays away."""
        waiting, values = self._spans, storable(end._asdict())
        with waiting.lock:
            if span_id in waiting.begun:
                waiting.begun[span_id] |= values
            else:
                waiting.ended[span_id] = values

    def write_spans(self) -> None:
        """Write down what was said of spans and is not written yet."""
        if self._spans.begun or self._spans.ended:
            with self.stating():
                pass

    def newest_span(self, run_id: str) -> Span | None:
        """The span of a run that began last, if there is any."""
        self.write_spans()
        with self.reading() as session:
            query = select(Span).where(Span.run_id == run_id).order_by(col(Span.started_at).desc())
            return session.exec(query.limit(1)).first()

    def spans(self, run_id: str) -> list[Span]:
        """All spans of a run in the order in which they began."""
        self.write_spans()
        with self.reading() as session:
            return list(session.exec(select(Span).where(Span.run_id == run_id).order_by(col(Span.started_at), Span.id)))

    @contextmanager
    def _put_off(self) -> Iterator[Callable[[Connection], None] | None]:
        waiting = self._spans
        with waiting.lock:
            begun, waiting.begun = waiting.begun, {}
            ended, waiting.ended = waiting.ended, {}
        if not (begun or ended):
            yield None
            return

        def write(connection: Connection) -> None:
            if begun:
                connection.execute(_BEGIN, list(begun.values()))
            if ended:
                rows = [{f"its_{name}": value for name, value in ended[id].items()} | {"span_id": id} for id in ended]
                connection.execute(_END, rows)

        try:
            yield write
        except BaseException:
            with waiting.lock:
                waiting.begun, waiting.ended = begun | waiting.begun, ended | waiting.ended
            raise
