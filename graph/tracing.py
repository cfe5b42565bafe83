"""Spans: what a search does, written down as it begins and as it ends.

They are OpenTelemetry's, with the attributes of its GenAI conventions and of OpenInference. They go into the records,
and, where the environment names an endpoint (OTEL_EXPORTER_OTLP_ENDPOINT), there as well. Keys and headers are in none.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry import trace
from pydantic_core import to_json

from memory.span_records import SpanBegin, SpanEnd
from tools.errors import InputError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

    from memory.records import Records

Kind = Literal["CHAIN", "AGENT", "LLM", "TOOL", "RETRIEVER", "EVALUATOR"]
"""OpenInference's kinds of spans."""

_OF_CALLS = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "input.value",
    "output.value",
)
"""What the row of a call has already, and may be long."""
_STEP = 1000
"""Nanoseconds: what the records tell apart."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class OpenSpan:
    """A span that lasts."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def say(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes; those that are None are left out, and what is no plain value is written as JSON."""
        for name, value in _plain(attributes).items():
            self._span.set_attribute(name, value)

    def fail(self, message: str) -> None:
        """It came to nothing, and why; the search goes on."""
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, message))


class Tracing:
    """Makes the spans of one run; `close` sends off what waits to be sent. Without `off` it goes into the records."""

    def __init__(self, tracer: trace.Tracer, close: Callable[[], None] | None = None, last: int = 0) -> None:
        """`last` is when the span began, in nanoseconds, that all others come after."""
        self._tracer, self._close, self._last = tracer, close, last

    @classmethod
    def off(cls) -> "Tracing":
        """Makes nothing."""
        return cls(trace.NoOpTracerProvider().get_tracer("penjing"))

    @classmethod
    def into(cls, records: "Records", run_id: str) -> "Tracing":
        """Into the records, and to the endpoint that the environment names.

        Raises:
            InputError: there is one, and the package that sends spans is missing.
        """
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        resource = Resource.create({"service.name": "penjing", "session.id": run_id})
        # Not the process's own provider: whoever imports Penjing may have one.
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(_to_records(records, run_id))
        if any(os.environ.get(name) for name in _ENDPOINTS):
            provider.add_span_processor(_to_endpoint())
        newest = records.newest_span(run_id)
        last = 0 if newest is None else int(newest.started_at.timestamp() * 1e6) * _STEP
        return cls(provider.get_tracer("penjing"), provider.shutdown, last)

    @contextmanager
    def span(self, name: str, kind: Kind, attributes: Mapping[str, Any] | None = None) -> Iterator[OpenSpan]:
        """A span around the work within; an error that leaves it is its status."""
        given = _plain({"openinference.span.kind": kind, **(attributes or {})})
        began, started = self._now(), time.monotonic_ns()
        span = self._tracer.start_span(name, attributes=given, start_time=began)
        try:
            with trace.use_span(span, record_exception=False):
                yield OpenSpan(span)
        finally:
            # As long as it took, also where the clock was set meanwhile.
            span.end(began + time.monotonic_ns() - started)

    def _now(self) -> int:
        """Nanoseconds by the machine's clock, but never before the last: spans stand in the order of their times."""
        self._last = max(time.time_ns(), self._last + _STEP)
        return self._last

    def close(self) -> None:
        """Nothing may be traced after it."""
        if self._close is not None:
            self._close()


def _to_records(records: "Records", run_id: str) -> "SpanProcessor":
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    class ToRecords(SpanProcessor):
        """A row for each span, also while it lasts, so that a killed search shows what it was at."""

        def on_start(self, span: ReadableSpan, parent_context: object = None) -> None:
            attributes = dict(span.attributes or {})
            context = span.get_span_context()
            assert context is not None  # noqa: S101 - a started span has one
            records.begin_span(
                SpanBegin(
                    id=trace.format_span_id(context.span_id),
                    run_id=run_id,
                    parent_id=None if span.parent is None else trace.format_span_id(span.parent.span_id),
                    name=span.name,
                    kind=str(attributes.pop("openinference.span.kind", "CHAIN")),
                    **_columns(attributes),
                    attributes=attributes,
                    started_at=_time(span.start_time),
                )
            )

        def on_end(self, span: ReadableSpan) -> None:
            attributes = dict(span.attributes or {})
            attributes.pop("openinference.span.kind", None)
            columns, context = _columns(attributes), span.get_span_context()
            assert context is not None  # noqa: S101 - a started span has one
            if columns["call_id"] is not None:
                attributes = {name: value for name, value in attributes.items() if name not in _OF_CALLS}
            failed = span.status.status_code is trace.StatusCode.ERROR
            end = SpanEnd(
                status="failed" if failed else "done",
                ended_at=_time(span.end_time),
                attributes=attributes,
                message=" ".join((span.status.description or "").split()),
                **columns,
            )
            records.end_span(trace.format_span_id(context.span_id), end)

    return ToRecords()


def _to_endpoint() -> "SpanProcessor":
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    try:
        if protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

            return BatchSpanProcessor(Grpc())
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http
    except ModuleNotFoundError as error:
        raise InputError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set, and {error.name}, which sends spans there, is missing: install "
            "penjing's otlp extra, or unset it."
        ) from error
    return BatchSpanProcessor(Http())


def _columns(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes that have a column of their own, taken out of the others."""
    return {name: attributes.pop(f"penjing.{name}", None) for name in ("turn", "trial", "call_id")}


def _plain(attributes: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    return {
        name: value if isinstance(value, str | int | float | bool) else to_json(value, fallback=str).decode()
        for name, value in attributes.items()
        if value is not None
    }


def _time(nanoseconds: int | None) -> datetime:
    return datetime.fromtimestamp((nanoseconds or 0) / 1e9, UTC)
