"""Spans of a search: whole, linked, there from their beginning on, and sent to a collector that is named."""

import http.server
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from graph.config import SearchConfig
from graph.session import SearchSession
from graph.tracing import Tracing
from memory.records import Records
from memory.tables import Run, Span
from tests.fake_openai import FakeOpenAI

ConfigOf = Callable[..., SearchConfig]
CANARY = "sk-canary-7f3a91c2"


def _by_name(spans: list[Span]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for span in spans:
        found.setdefault(span.name, []).append(span)
    return found


def test_a_search_leaves_its_spans(config_of: ConfigOf, survey_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenAI(seed=3, models=("fake",), key=CANARY) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(trials=4, cache=survey_cache))
        session.run()
    spans, calls = session.spans(), session.calls()
    ids, named = {span.id: span for span in spans}, _by_name(spans)
    assert all(span.status == "done" and span.ended_at is not None for span in spans)
    (root,) = named["search"]
    assert root.parent_id is None and all(span.parent_id in ids for span in spans if span is not root)
    assert {"survey", "propose", "check", "evaluate", "remember", "decide", "finish"} <= named.keys()
    assert [span.trial for span in named["evaluation"]] == [0, 1, 2, 3]
    assert all(ids[str(span.parent_id)].name == "evaluate" for span in named["evaluation"])
    talks = [span for span in spans if span.kind == "LLM"]
    assert [span.call_id for span in talks] == [call.id for call in calls]
    for span, call in zip(talks, calls, strict=True):
        assert ids[str(span.parent_id)].kind == "AGENT" and span.turn == call.turn
        assert span.attributes["penjing.prompt.hash"] == call.prompt_hash
        assert span.attributes["gen_ai.usage.input_tokens"] == call.input_tokens
        assert "gen_ai.input.messages" not in span.attributes, "the call's row has them"
    assert CANARY not in json.dumps([span.model_dump(mode="json") for span in spans])


def test_a_span_is_there_while_it_lasts(tmp_path: Path) -> None:
    with Records.open(tmp_path / "records.sqlite") as records:
        records.create_run(Run(id="run"))
        tracing = Tracing.into(records, "run")
        with tracing.span("search", "CHAIN"):
            with (
                pytest.raises(ValueError, match="no such luck"),
                tracing.span("evaluation", "EVALUATOR", {"penjing.trial": 3}),
            ):
                raise ValueError("no such luck")
            outer, inner = records.spans("run")
            assert (outer.status, outer.ended_at) == ("running", None)
            assert (inner.status, inner.message, inner.trial) == ("failed", "ValueError: no such luck", 3)
            assert inner.parent_id == outer.id
        tracing.close()
        assert [span.status for span in records.spans("run")] == ["done", "failed"]


def test_spans_go_to_a_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[ExportTraceServiceRequest] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    try:
        with Records.open(tmp_path / "records.sqlite") as records:
            records.create_run(Run(id="run"))
            tracing = Tracing.into(records, "run")
            with tracing.span(
                "chat fake", "LLM", {"gen_ai.request.model": "fake", "gen_ai.input.messages": [{"role": "user"}]}
            ):
                pass
            tracing.close()
            (row,) = records.spans("run")
    finally:
        server.shutdown()
        server.server_close()
    (span,) = received[0].resource_spans[0].scope_spans[0].spans
    sent = {one.key: one.value.string_value for one in span.attributes}
    assert (span.name, span.span_id.hex()) == ("chat fake", row.id)
    assert sent["gen_ai.request.model"] == "fake" and sent["openinference.span.kind"] == "LLM"
    assert json.loads(sent["gen_ai.input.messages"]) == [{"role": "user"}]
