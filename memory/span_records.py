"""Records of spans: a row when a stretch of work begins, changed once when it ends."""

from typing import Any

from sqlmodel import col, select

from memory.database import Database, change
from memory.tables import Span
from memory.values import storable


class SpanRecords(Database):
    """A killed process leaves rows without an end; nothing else is lost of them."""

    def begin_span(self, span: Span) -> None:
        """Write down that `span` began."""
        with self.writing() as session:
            session.add(Span(**storable(span.model_dump())))

    def end_span(self, span_id: str, **fields: Any) -> None:
        """Write down how a span ended. One that is not there, since its run was forgotten meanwhile, stays away."""
        with self.writing() as session:
            if (span := session.get(Span, span_id)) is not None:
                change(span, fields)

    def newest_span(self, run_id: str) -> Span | None:
        """The span of a run that began last, if there is any."""
        with self.reading() as session:
            query = select(Span).where(Span.run_id == run_id).order_by(col(Span.started_at).desc())
            return session.exec(query.limit(1)).first()

    def spans(self, run_id: str) -> list[Span]:
        """All spans of a run in the order in which they began."""
        with self.reading() as session:
            return list(session.exec(select(Span).where(Span.run_id == run_id).order_by(col(Span.started_at), Span.id)))
