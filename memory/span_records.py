"""Records of spans: a row when a stretch of work begins, changed once when it ends."""

from typing import Any

from sqlalchemy import bindparam, insert, update
from sqlmodel import col, select

from memory.database import Database
from memory.tables import Span
from memory.values import storable

# There are a dozen spans to a trial, and nothing else is written with them: single statements take half the time.
_BEGIN = insert(Span)
_END = update(Span).where(col(Span.id) == bindparam("span_id"))


class SpanRecords(Database):
    """A killed process leaves rows without an end; nothing else is lost of them."""

    def begin_span(self, span: Span) -> None:
        """Write down that `span` began."""
        with self.stating() as connection:
            connection.execute(_BEGIN, storable(span.model_dump()))

    def end_span(self, span_id: str, **fields: Any) -> None:
        """Write down how a span ended. One that is not there, since its run was forgotten meanwhile, stays away."""
        with self.stating() as connection:
            connection.execute(_END.values(storable(fields)), {"span_id": span_id})

    def newest_span(self, run_id: str) -> Span | None:
        """The span of a run that began last, if there is any."""
        with self.reading() as session:
            query = select(Span).where(Span.run_id == run_id).order_by(col(Span.started_at).desc())
            return session.exec(query.limit(1)).first()

    def spans(self, run_id: str) -> list[Span]:
        """All spans of a run in the order in which they began."""
        with self.reading() as session:
            return list(session.exec(select(Span).where(Span.run_id == run_id).order_by(col(Span.started_at), Span.id)))
