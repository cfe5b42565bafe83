"""Records of many finished trials at once: one transaction for all, where one for each takes most of the time."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import JSON
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, col, func, select

from memory.database import Database
from memory.tables import Evaluation, Proposal, Run, Trial, now
from memory.values import Written, storable, written
from tools.architecture import Architecture
from tools.errors import InputError

_ROWS = 500  # of one statement; SQLite takes 32,766 values


class FinishedTrial(NamedTuple):
    """A proposal, the design that came of it, and its evaluation: rows that are in no database yet."""

    proposal: Proposal
    architecture: Architecture
    evaluation: Evaluation
    cached: bool = False


class Place(NamedTuple):
    """The number of a trial in its run, and whether it, its proposal and its evaluation all were written down now."""

    number: int
    is_new: bool


class BulkRecords(Database):
    """Whole batches of trials."""

    def add_finished_trials(self, run_id: str, finished: Sequence[FinishedTrial]) -> list[Place]:
        """Write trials of one run down in this order; the place of each. All of them are there, or none.

        Proposals whose place is taken and evaluations whose key is taken stay as they are, and a proposal that has a
        trial keeps it, so that repeating is harmless.

        Raises:
            InputError: there is no such run.
        """
        with self.writing() as session:
            if session.exec(select(Run.id).where(Run.id == run_id).with_for_update()).first() is None:
                raise InputError(f"there is no run {run_id!r}; `penjing runs` lists the runs there are")
            unique = ("run_id", "turn", "attempt", "proposer", "candidate")
            keys = {entry.evaluation.key for entry in finished}
            there, paid = _proposal_ids(session, run_id), _evaluation_ids(session, keys)
            _insert_new(session, _rows(entry.proposal for entry in finished), Proposal, *unique)
            _insert_new(session, _rows(entry.evaluation for entry in finished), Evaluation, "key")
            proposals, evaluations = _proposal_ids(session, run_id), _evaluation_ids(session, keys)
            last = session.exec(select(func.max(Trial.number)).where(Trial.run_id == run_id)).one()
            numbers = dict(session.exec(select(Trial.proposal_id, Trial.number).where(Trial.run_id == run_id)).all())
            following, trials = 0 if last is None else last + 1, list[dict[str, Any]]()
            for entry in finished:
                proposal_id = proposals[_place(entry.proposal)]
                if proposal_id in numbers:
                    continue
                numbers[proposal_id] = following + len(trials)
                trials.append(
                    {
                        "run_id": run_id,
                        "number": numbers[proposal_id],
                        "proposal_id": proposal_id,
                        "evaluation_id": evaluations[entry.evaluation.key],
                        "stage": entry.proposal.stage,
                        "proposer": entry.proposal.proposer,
                        "parent_number": entry.proposal.parent_number,
                        "architecture_hash": entry.architecture.hash,
                        "architecture": Written(entry.architecture.model_dump_json()),
                        "cached": entry.cached,
                        "created_at": now(),
                    }
                )
            _insert_new(session, trials, Trial, "proposal_id")
        return [
            Place(
                numbers[proposals[_place(entry.proposal)]],
                _place(entry.proposal) not in there and entry.evaluation.key not in paid,
            )
            for entry in finished
        ]


def _rows(rows: Iterable[SQLModel]) -> list[dict[str, Any]]:
    """Values of the columns but the id; a JSON value that stands in several rows is written once."""
    texts, found = dict[int, Written](), list[dict[str, Any]]()
    for row in rows:
        values = dict[str, Any]()
        for name, is_json in _columns(type(row)).items():
            value = getattr(row, name)
            if not is_json:
                values[name] = storable(value)
            elif value is None:
                values[name] = None
            else:
                # The rows, which all are there still, keep it, so that no other value has its address.
                if id(value) not in texts:
                    texts[id(value)] = written(value)
                values[name] = texts[id(value)]
        found.append(values)
    return found


@cache
def _columns(table: type[SQLModel]) -> dict[str, bool]:
    """Names of the columns but the id, each with whether it holds JSON."""
    columns = table.__table__.columns  # type: ignore[attr-defined]
    return {column.name: isinstance(column.type, JSON) for column in columns if column.name != "id"}


def _insert_new(session: Session, rows: list[dict[str, Any]], table: type[SQLModel], *unique: str) -> None:
    """INSERT .. ON CONFLICT (unique columns) DO NOTHING, many rows a statement."""
    dialect: Any = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    for start in range(0, len(rows), _ROWS):
        statement = dialect.insert(table).on_conflict_do_nothing(index_elements=unique)
        session.execute(statement, rows[start : start + _ROWS])


def _place(proposal: Proposal) -> tuple[int, int, str, int]:
    return proposal.turn, proposal.attempt, proposal.proposer, proposal.candidate


def _proposal_ids(session: Session, run_id: str) -> dict[tuple[int, int, str, int], int]:
    query = select(Proposal.turn, Proposal.attempt, Proposal.proposer, Proposal.candidate, Proposal.id)  # type: ignore[call-overload]
    rows = session.exec(query.where(Proposal.run_id == run_id))
    return {(turn, attempt, proposer, candidate): id for turn, attempt, proposer, candidate, id in rows}


def _evaluation_ids(session: Session, keys: set[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    wanted = sorted(keys)
    for start in range(0, len(wanted), _ROWS):
        query = select(Evaluation.key, Evaluation.id).where(col(Evaluation.key).in_(wanted[start : start + _ROWS]))
        found.update(dict(session.exec(query).all()))
    return found
