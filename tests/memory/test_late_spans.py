"""Spans are written with what is written next; nothing of them is lost where that fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.records import Records
from memory.span_records import SpanBegin, SpanEnd
from memory.tables import Run, Span, now


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "records.sqlite"


@pytest.fixture
def records(place: Path) -> Iterator[Records]:
    with Records.open(place) as opened:
        opened.create_run(Run(id="run-a"))
        yield opened


def seen_by_others(place: Path) -> dict[str, str]:
    with Records.open(place) as other:
        return {span.id: span.status for span in other.spans("run-a")}


def begin(records: Records, id: str) -> None:
    records.begin_span(SpanBegin(id=id, run_id="run-a", name=id, kind="CHAIN", started_at=now(), attributes={}))


def test_the_next_record_takes_them_along(records: Records, place: Path) -> None:
    begin(records, "short")
    records.end_span("short", SpanEnd("done", now(), {}))
    begin(records, "long")
    assert seen_by_others(place) == {}
    records.add_event("run-a", "stage", {})
    open_status = Span(id="x", run_id="run-a", name="x", kind="CHAIN", started_at=now()).status
    assert seen_by_others(place) == {"short": "done", "long": open_status}
    records.end_span("long", SpanEnd("failed", now(), {"tokens": 3}, "why", trial=2))
    records.write_spans()
    assert seen_by_others(place) == {"short": "done", "long": "failed"}
    (long,) = [span for span in records.spans("run-a") if span.id == "long"]
    assert (long.message, long.attributes, long.trial, long.turn) == ("why", {"tokens": 3}, 2, None)


def test_what_reads_them_here_sees_all(records: Records) -> None:
    begin(records, "one")
    assert [span.id for span in records.spans("run-a")] == ["one"]
    begin(records, "two")
    newest = records.newest_span("run-a")
    assert newest is not None and newest.id == "two"


def test_a_write_that_fails_keeps_them_for_the_next(records: Records, place: Path) -> None:
    begin(records, "first")
    with pytest.raises(KeyError):
        records.update_proposal(99, outcome="valid")
    assert seen_by_others(place) == {}
    records.end_span("first", SpanEnd("done", now(), {}))
    records.add_event("run-a", "stage", {})
    assert seen_by_others(place) == {"first": "done"}
