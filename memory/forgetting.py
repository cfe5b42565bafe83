"""Taking a run out of the records for good, with all that belongs to it alone."""

from typing import Any

from pydantic import BaseModel
from sqlalchemy import delete, update
from sqlmodel import Session, col, func, not_, or_, select

from memory.database import Database
from memory.exchange_format import folder_of_key
from memory.tables import (
    Call,
    Evaluation,
    Pattern,
    PatternTest,
    Promotion,
    Prompt,
    Proposal,
    Run,
    RunEvent,
    Table,
    Trial,
)
from tools.errors import InputError


class Forgetting(BaseModel):
    """What goes with a run, counted, and what stays since other runs use it; `folders` are those of its evaluations."""

    run: str
    trials: int
    proposals: int
    calls: int
    events: int
    patterns: int
    """Patterns that it named, and those of other runs that were drawn from its trials."""
    prompts: int
    """Prompt templates that no other run used."""
    evaluations: int
    evaluations_kept: int
    folders: list[str]


def what_goes(records: Database, run_id: str) -> Forgetting:
    """What `forget_run` would take out. Raises InputError where there is no such run."""
    with records.reading() as session:
        return _plan(session, run_id)[0]


def forget_run(records: Database, run_id: str) -> Forgetting:
    """Take a run out, in one transaction; what it was comes back by nothing but a copy.

    Evaluations that trials of other runs have stay, as those of nobody. What other runs quoted of it in their prompts
    stays in these. SQLite overwrites what it deletes.

    Raises:
        InputError: there is no such run.
    """
    with records.writing() as session:
        connection = session.connection()
        on_sqlite = connection.dialect.name == "sqlite"
        if on_sqlite:
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        plan, gone = _plan(session, run_id)
        trials = select(Trial.id).where(Trial.run_id == run_id)
        for chunk in _chunks(gone["patterns"]):
            session.execute(delete(PatternTest).where(col(PatternTest.pattern_id).in_(chunk)))
        session.execute(delete(PatternTest).where(col(PatternTest.trial_id).in_(trials)))
        for chunk in _chunks(gone["patterns"]):
            session.execute(delete(Pattern).where(col(Pattern.id).in_(chunk)))
        # Tables that refer to others first, whichever come to have runs.
        for table in reversed(Table.metadata.sorted_tables):
            if "run_id" in table.c and table.name != "evaluation":
                session.execute(table.delete().where(table.c.run_id == run_id))
        for chunk in _chunks(gone["evaluations"]):
            session.execute(delete(Evaluation).where(col(Evaluation.id).in_(chunk)))
        session.execute(update(Evaluation).where(col(Evaluation.run_id) == run_id).values(run_id=None))
        for chunk in _chunks(gone["prompts"]):
            session.execute(delete(Prompt).where(col(Prompt.hash).in_(chunk)))
        session.execute(delete(Run).where(col(Run.id) == run_id))
    if on_sqlite:
        # Until then the log beside the database still has what it had.
        with records.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return plan


def _plan(session: Session, run_id: str) -> tuple[Forgetting, dict[str, list[Any]]]:
    if session.get(Run, run_id) is None:
        raise InputError(f"there is no run {run_id!r}; `penjing runs` lists the runs there are")
    gone: dict[str, list[Any]] = {
        "patterns": _patterns(session, run_id),
        "evaluations": _evaluations(session, run_id),
        "prompts": _prompts(session, run_id),
    }
    paid = session.exec(select(func.count()).select_from(Evaluation).where(Evaluation.run_id == run_id)).one()
    plan = Forgetting(
        run=run_id,
        trials=_count(session, Trial, run_id),
        proposals=_count(session, Proposal, run_id),
        calls=_count(session, Call, run_id),
        events=_count(session, RunEvent, run_id),
        patterns=len(gone["patterns"]),
        prompts=len(gone["prompts"]),
        evaluations=len(gone["evaluations"]),
        evaluations_kept=paid - len(gone["evaluations"]),
        folders=_folders(session, gone["evaluations"]),
    )
    return plan, gone


def _count(session: Session, table: Any, run_id: str) -> int:
    return session.exec(select(func.count()).select_from(table).where(table.run_id == run_id)).one()


def _patterns(session: Session, run_id: str) -> list[int]:
    """Its own, and those that its trials are evidence of."""
    rows = session.exec(select(Pattern.id, Pattern.run_id, Pattern.drawn_from))
    return [
        id
        for id, owner, drawn_from in rows
        if owner == run_id or any(name.rpartition("/")[0] == run_id for name in drawn_from)
    ]


def _evaluations(session: Session, run_id: str) -> list[int]:
    """Those that it paid for and no other run has a trial of, and those of nobody that only it has."""
    evaluation, measured = col(Evaluation.id), (Trial, Promotion)
    elsewhere = [
        evaluation.in_(select(one.evaluation_id).where(col(one.run_id) != run_id, col(one.evaluation_id).is_not(None)))
        for one in measured
    ]
    own = [evaluation.in_(select(one.evaluation_id).where(col(one.run_id) == run_id)) for one in measured]
    nobodys = col(Evaluation.run_id).is_(None) & or_(*own)
    query = select(Evaluation.id).where(or_(col(Evaluation.run_id) == run_id, nobodys), not_(or_(*elsewhere)))
    return list(session.exec(query))


def _prompts(session: Session, run_id: str) -> list[str]:
    """Hashes of the templates that this run used and no other one."""

    def used(own: bool) -> set[str]:
        found: set[str] = set()
        for table in (Proposal, Call):
            whose = col(table.run_id) == run_id if own else col(table.run_id) != run_id
            hashes = session.exec(
                select(table.prompt_hash).where(whose, col(table.prompt_hash).is_not(None)).distinct()
            )
            found.update(hash for hash in hashes if hash is not None)
        return found

    return sorted(used(True) - used(False))


def _folders(session: Session, evaluations: list[int]) -> list[str]:
    """Folders of evaluations that go, without those in which another one that stays has its files."""
    going: set[str] = set()
    for chunk in _chunks(evaluations):
        keys = session.exec(select(Evaluation.key).where(col(Evaluation.id).in_(chunk)))
        going |= {folder for key in keys if (folder := folder_of_key(key)) is not None}
    staying = set()
    for chunk in _chunks(sorted(going)):
        rows = session.exec(select(Evaluation.id, Evaluation.key).where(col(Evaluation.key).in_(chunk)))
        staying |= {key for id, key in rows if id not in set(evaluations)}
    return sorted(going - staying)


def _chunks(items: list[Any], size: int = 500) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
