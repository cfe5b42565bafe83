"""Runs on their way to another home: written as JSON lines, `memory.exchange_format` says of what kinds."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session, SQLModel, col, or_, select

from memory.database import Database
from memory.exchange_format import FORMAT, VERSION
from memory.tables import Call, Evaluation, Pattern, PatternTest, Promotion, Prompt, Proposal, Run, RunEvent, Trial
from memory.values import to_json

_ROWS = 500  # in memory at a time


def export_lines(records: Database, run_ids: Sequence[str]) -> Iterator[str]:
    """These runs with all that belongs to them, a line each, as they were at one moment.

    Evaluations that they found in the records go with them, and so do the prompts that they used. Tests of patterns go
    where both the pattern and the trial that tests it do. Spans and the files of runs stay behind.
    """
    wanted = list(run_ids)
    header = {"format": FORMAT, "version": VERSION, "runs": wanted, "written_at": datetime.now(UTC).isoformat()}
    yield _written("header", header)
    count = 0
    with records.reading() as session:
        for kind, row in _rows(session, wanted):
            count += 1
            yield _written(kind, row)
    yield _written("end", {"lines": count})


def _rows(session: Session, wanted: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    used = select(Proposal.prompt_hash).where(col(Proposal.run_id).in_(wanted))
    called = select(Call.prompt_hash).where(col(Call.run_id).in_(wanted))
    prompts = select(Prompt).where(or_(col(Prompt.hash).in_(used), col(Prompt.hash).in_(called)))
    yield from _plain(session, "prompt", prompts.order_by(col(Prompt.hash)))
    runs = select(Run).where(col(Run.id).in_(wanted)).order_by(col(Run.position), col(Run.created_at), col(Run.id))
    yield from _plain(session, "run", runs, without=("imported_at", "position", "evaluations_before"))
    found = [select(table.evaluation_id).where(col(table.run_id).in_(wanted)) for table in (Trial, Promotion)]
    used_by_them = [col(Evaluation.id).in_(ids) for ids in found]
    paid = select(Evaluation).where(or_(col(Evaluation.run_id).in_(wanted), *used_by_them))
    for kind, row in _plain(session, "evaluation", paid.order_by(col(Evaluation.id)), without=("id", "accuracy")):
        # Who paid and is not in the file means nothing elsewhere.
        yield kind, {**row, "run_id": row["run_id"] if row["run_id"] in wanted else None}
    yield from _plain(session, "proposal", _of(Proposal, wanted))
    yield from _measured(session, "trial", Trial, wanted)
    yield from _measured(session, "promotion", Promotion, wanted, without=("id",))
    yield from _plain(session, "pattern", _of(Pattern, wanted))
    tests = (
        select(PatternTest)
        .join(Pattern, col(Pattern.id) == col(PatternTest.pattern_id))
        .join(Trial, col(Trial.id) == col(PatternTest.trial_id))
        .where(col(Pattern.run_id).in_(wanted), col(Trial.run_id).in_(wanted))
        .order_by(col(PatternTest.id))
    )
    yield from _plain(session, "pattern_test", tests, without=("id",))
    yield from _plain(session, "call", _of(Call, wanted), without=("id",))
    yield from _plain(session, "event", _of(RunEvent, wanted), without=("id",))


def _measured(
    session: Session, kind: str, table: Any, wanted: list[str], without: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows that name an evaluation, by its key."""
    keys = (
        select(table, Evaluation.key)
        .join(Evaluation, col(Evaluation.id) == table.evaluation_id, isouter=True)
        .where(table.run_id.in_(wanted))
        .order_by(table.id)
    )
    for row, key in session.exec(keys, execution_options={"yield_per": _ROWS}):
        yield kind, {**_dumped(row, ("evaluation_id", *without)), "evaluation_key": key}


def _of(table: Any, wanted: list[str]) -> Any:
    return select(table).where(table.run_id.in_(wanted)).order_by(table.id)


def _plain(
    session: Session, kind: str, query: Any, without: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in session.exec(query, execution_options={"yield_per": _ROWS}):
        yield kind, _dumped(row, without)


def _dumped(row: SQLModel, without: tuple[str, ...]) -> dict[str, Any]:
    # JSON columns hold plain values, also of what a later version would call otherwise.
    return row.model_dump(mode="json", exclude=set(without))


def _written(kind: str, record: dict[str, Any]) -> str:
    return f'{{"{kind}": {to_json(record)}}}'
