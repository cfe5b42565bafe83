"""The tables of the records: what a search writes down, row by row.

An integer id is given by the database: a row that was made but not added has none.
JSON columns are `JSON` on SQLite and `JSONB` on PostgreSQL. Times are aware and in UTC.
"""

import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Text,
    UniqueConstraint,
    column,
    event,
    func,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapper, ORMExecuteState, Session
from sqlmodel import Field, SQLModel

# Constraints get stable names, so that later migrations can name what they change.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class FinishedTrialError(RuntimeError):
    """A trial that has its evaluation was to be changed. Finished trials are evidence and stay as they are."""


def now() -> datetime:
    """The present, aware and in UTC."""
    return datetime.now(UTC)


# Pydantic asks for their signature at each row, which takes 20 times as long of the built-in types.
def no_items() -> list[Any]:
    """A new empty list."""
    return []


def no_entries() -> dict[str, Any]:
    """A new empty dictionary."""
    return {}


def json_column(*, nullable: bool = False) -> Column[Any]:
    """A new JSON column that SQLite and PostgreSQL both have; `None` is stored as SQL NULL."""
    portable = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    return Column(portable, nullable=nullable)


def _greatest(column_name: str, of: str) -> Any:
    """For the database, as it writes a row: the greatest value of a column of integers, 0 where there is none."""
    return select(func.coalesce(func.max(column(column_name)), 0)).select_from(table(of)).scalar_subquery()


class Table(SQLModel):
    """What all tables share: their own metadata, apart from other SQLModel tables in the process."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Run(Table, table=True):
    """One search. `fingerprint` hashes the settings that decide results; `source_architecture` is the uncut model.

    `wall_clock_seconds` is what all its sessions took together. A branch goes on from trial `branch_at` of the run
    `branch_of`: what is of turns before its `first_turn` was copied from there. `imported_at` marks a run of another
    home: it can be looked at, and is never gone on with. `position` counts runs as they were written down, and
    `evaluations_before` is the last id of an evaluation then: the clock may have been set back since.
    """

    id: str = Field(primary_key=True)
    name: str = ""
    status: str = "running"  # running, interrupted, finished or failed
    config: dict[str, Any] = Field(default_factory=no_entries, sa_column=json_column())
    fingerprint: str = Field(default="", index=True)
    source: str = Field(default="", index=True)
    corpus: str = Field(default="", index=True)
    source_architecture: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    message: str = Field(default="", sa_type=Text)
    wall_clock_seconds: float = 0.0
    branch_of: str | None = None
    branch_at: int | None = None
    first_turn: int = 0
    result: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    created_at: datetime = Field(default_factory=now, index=True)
    finished_at: datetime | None = None
    imported_at: datetime | None = None
    position: int = Field(
        default=None, sa_column=Column(Integer, nullable=False, default=_greatest("position", "run") + 1)
    )
    evaluations_before: int = Field(
        default=None, sa_column=Column(Integer, nullable=False, default=_greatest("id", "evaluation"))
    )


class Evaluation(Table, table=True):
    """A paid measurement. `key` names all that decides it, so that no evaluation is paid twice.

    `run_id` is the run that paid for it, None where that is not here any more. `accuracy` is that of the `measurement`.
    """

    # The best ones of many are found without looking at the others.
    __table_args__ = (
        Index("ix_evaluation_status_loss_parameters", "status", "loss", "parameters"),
        Index("ix_evaluation_status_accuracy_parameters", "status", "accuracy", "parameters"),
    )

    id: int = Field(default=None, primary_key=True)
    key: str = Field(unique=True)
    run_id: str | None = Field(default=None, foreign_key="run.id", index=True)
    architecture_hash: str = Field(index=True)
    architecture: dict[str, Any] = Field(sa_column=json_column())
    fidelity: str
    status: str  # done or failed
    loss: float | None = None
    accuracy: float | None = None
    parameters: int = Field(sa_type=BigInteger)
    measurement: dict[str, Any] = Field(sa_column=json_column())
    created_at: datetime = Field(default_factory=now)

    def __init__(self, **values: Any) -> None:
        found = values.get("measurement", {}).get("accuracy")
        # In JSON, what is not a number is text.
        is_number = isinstance(found, int | float) and math.isfinite(found)
        super().__init__(**{**values, "accuracy": found if is_number else None})


class Proposal(Table, table=True):
    """One answer of one proposer: raw, parsed, what was wrong with it, what projection changed, what came of it.

    `candidate` counts the designs that were asked for in one turn. What was expected of a legal design before it was
    paid for: `forecast`, the saliency of what it cuts, and by the surrogate `expected_score`, the lower the better in
    its run's objective, give or take `expected_deviation`. `retrieved` is what memory had put into its prompt.
    """

    __table_args__ = (UniqueConstraint("run_id", "turn", "attempt", "proposer", "candidate"),)

    id: int = Field(default=None, primary_key=True)
    run_id: str = Field(foreign_key="run.id", index=True)
    turn: int
    attempt: int = 0
    candidate: int = 0
    stage: str
    proposer: str
    parent_number: int | None = None
    based_on: list[int] = Field(default_factory=no_items, sa_column=json_column())
    prompt_hash: str | None = Field(default=None, index=True)
    raw: str = Field(default="", sa_type=Text)
    parsed: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    rationale: list[str] = Field(default_factory=no_items, sa_column=json_column())
    problems: list[str] = Field(default_factory=no_items, sa_column=json_column())
    notes: list[str] = Field(default_factory=no_items, sa_column=json_column())
    outcome: str  # open, valid, repaired, projected, edited, screened, rejected or unparsed
    architecture: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    forecast: float | None = None
    expected_score: float | None = None
    expected_deviation: float | None = None
    retrieved: list[dict[str, Any]] = Field(default_factory=no_items, sa_column=json_column())
    created_at: datetime = Field(default_factory=now)


class Trial(Table, table=True):
    """A design under its number in the run. It gets its evaluation once and is immutable from then on."""

    __table_args__ = (UniqueConstraint("run_id", "number"),)

    id: int = Field(default=None, primary_key=True)
    run_id: str = Field(foreign_key="run.id", index=True)
    number: int
    proposal_id: int = Field(foreign_key="proposal.id", unique=True)
    evaluation_id: int | None = Field(default=None, foreign_key="evaluation.id", index=True)
    stage: str
    proposer: str
    parent_number: int | None = None
    architecture_hash: str = Field(index=True)
    architecture: dict[str, Any] = Field(sa_column=json_column())
    cached: bool = False
    created_at: datetime = Field(default_factory=now)


class Promotion(Table, table=True):
    """A trial that is measured again on a higher rung. It gets that evaluation once and is immutable from then on.

    Rung 0 is the trial's own evaluation. `rank`, from 1, is the place that it had among the `rivals` on the rung below
    when it was promoted, itself included; `turn` is the one that was next then.
    """

    __table_args__ = (UniqueConstraint("trial_id", "rung"),)

    id: int = Field(default=None, primary_key=True)
    run_id: str = Field(foreign_key="run.id", index=True)
    trial_id: int = Field(foreign_key="trial.id")
    turn: int
    rung: int
    fidelity: str
    rank: int
    rivals: int
    evaluation_id: int | None = Field(default=None, foreign_key="evaluation.id", index=True)
    cached: bool = False
    created_at: datetime = Field(default_factory=now)


class Approval(Table, table=True):
    """A trial that its user is asked about before it is paid for; `decision` is None while nobody has decided.

    `proposed` is its design as it was asked about, `design` the one that the user put in its place, `words` what its
    author is told where it was rejected.
    """

    __table_args__ = (UniqueConstraint("run_id", "trial"),)

    id: int = Field(default=None, primary_key=True)
    run_id: str = Field(foreign_key="run.id", index=True)
    trial: int
    turn: int
    candidate: int = 0
    attempt: int = 0
    proposed: dict[str, Any] = Field(sa_column=json_column())
    asked_at: datetime = Field(default_factory=now)
    decision: str | None = None  # accept, edit or reject
    design: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    words: str = Field(default="", sa_type=Text)
    decided_at: datetime | None = None


class Prompt(Table, table=True):
    """The text of a prompt template, under its hash."""

    hash: str = Field(primary_key=True)
    name: str = Field(index=True)
    text: str = Field(sa_type=Text)
    created_at: datetime = Field(default_factory=now)


class Pattern(Table, table=True):
    """A design principle that an agent named, and the trials, `RUN/NUMBER`, that it had been shown for it.

    `claim` is what can be tested of its words, None where nothing can.
    """

    __table_args__ = (UniqueConstraint("proposal_id", "line"),)

    id: int = Field(default=None, primary_key=True)
    run_id: str = Field(foreign_key="run.id", index=True)
    proposal_id: int = Field(foreign_key="proposal.id")
    line: int
    text: str = Field(sa_type=Text)
    claim: dict[str, Any] | None = Field(default=None, sa_column=json_column(nullable=True))
    drawn_from: list[str] = Field(default_factory=no_items, sa_column=json_column())
    created_at: datetime = Field(default_factory=now)


class PatternTest(Table, table=True):
    """What a later trial says of a pattern."""

    __table_args__ = (UniqueConstraint("pattern_id", "trial_id"),)

    id: int = Field(default=None, primary_key=True)
    pattern_id: int = Field(foreign_key="pattern.id")
    trial_id: int = Field(foreign_key="trial.id", index=True)
    verdict: str  # support or contradiction
    created_at: datetime = Field(default_factory=now)


class RunEvent(Table, table=True):
    """Something that happened in a run, as its user was told."""

    id: int = Field(default=None, primary_key=True)
    run_id: str = Field(foreign_key="run.id", index=True)
    kind: str
    trial: int | None = None
    payload: dict[str, Any] = Field(sa_column=json_column())
    created_at: datetime = Field(default_factory=now)


class Span(Table, table=True):
    """A stretch of work in a run, from its start on: `ended_at` is None while it lasts, and where it was killed.

    `kind` is OpenInference's (CHAIN, AGENT, LLM, TOOL, ...), and `attributes` have OpenTelemetry's names. What was said
    in a call of a chat model is in its row, `call_id`.
    """

    id: str = Field(primary_key=True)
    run_id: str = Field(foreign_key="run.id", index=True)
    parent_id: str | None = None
    name: str
    kind: str
    turn: int | None = None
    trial: int | None = None
    call_id: int | None = None
    status: str = "running"  # running, done or failed
    message: str = Field(default="", sa_type=Text)
    attributes: dict[str, Any] = Field(default_factory=no_entries, sa_column=json_column())
    started_at: datetime = Field(default_factory=now)
    ended_at: datetime | None = None


class Call(Table, table=True):
    """One call of a chat model: what was sent, what came back, what it cost, what went wrong on the way in order."""

    id: int = Field(default=None, primary_key=True)
    run_id: str = Field(foreign_key="run.id", index=True)
    turn: int
    candidate: int = 0
    agent: str
    prompt_hash: str | None = None
    model: str
    messages: list[dict[str, Any]] = Field(default_factory=no_items, sa_column=json_column())
    answer: str = Field(default="", sa_type=Text)
    schema_name: str = ""
    temperature: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None
    seconds: float = 0.0
    error: str | None = Field(default=None, sa_type=Text)
    faults: list[str] = Field(default_factory=no_items, sa_column=json_column())
    created_at: datetime = Field(default_factory=now)


@event.listens_for(Trial, "before_update")
@event.listens_for(Promotion, "before_update")
def _keep_finished(_mapper: Mapper[Any], connection: Connection, row: Trial | Promotion) -> None:
    """Refuse to change what already names an evaluation in its row."""
    stored = type(row).__table__.c  # type: ignore[union-attr]
    evaluation_id = connection.execute(select(stored.evaluation_id).where(stored.id == row.id)).scalar_one()
    if evaluation_id is not None:
        raise FinishedTrialError(f"{_words(row)} of run {row.run_id} is finished and cannot be changed")


@event.listens_for(Session, "do_orm_execute")
def _keep_finished_in_bulk(state: ORMExecuteState) -> None:
    """The same for an UPDATE of many rows at once, which passes by the single ones."""
    kind = None if state.bind_mapper is None else state.bind_mapper.class_
    if not state.is_update or kind not in (Trial, Promotion):
        return
    stored = kind.__table__.c
    chosen = select(stored.id).where(stored.evaluation_id.is_not(None)).limit(1)
    conditions = getattr(state.statement, "whereclause", None)
    rows = state.parameters
    if isinstance(rows, list):
        chosen = chosen.where(stored.id.in_([row["id"] for row in rows]))
    if conditions is not None:
        chosen = chosen.where(conditions)
    finished = state.session.connection().execute(chosen).first()
    if finished is not None:
        found = state.session.get_one(kind, finished.id)
        raise FinishedTrialError(f"{_words(found)} of run {found.run_id} is finished and cannot be changed")


def _words(row: Trial | Promotion) -> str:
    return f"trial {row.number}" if isinstance(row, Trial) else f"rung {row.rung} of a trial"
