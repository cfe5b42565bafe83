"""Records of many finished trials at once: one transaction for all, where one for each takes most of the time."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, col, func, select

from memory.database import Database
from memory.tables import Evaluation, Proposal, Run, Trial
from memory.values import storable
from tools.architecture import Architecture
from tools.errors import InputError

_ROWS = 500  # of one statement; SQLite takes 32,766 values


class FinishedTrial(NamedTuple):
    """A proposal, the design that came of it, and its evaluation: rows that are in no database yet."""

    proposal: Proposal
    architecture: Architecture
    evaluation: Evaluation
    cached: bool = False


class BulkRecords(Database):
    """Whole batches of trials, as an import or a benchmark brings them."""

    def add_finished_trials(self, run_id: str, finished: Sequence[FinishedTrial]) -> list[int]:
        """Write trials of one run down in this order; the number of each. All of them are there, or none.

        Proposals whose place is taken and evaluations whose key is taken stay as they are, and a proposal that has a
        trial keeps it, so that repeating is harmless.

        Raises:
            InputError: there is no such run.
        """
        with self.writing() as session:
            if session.exec(select(Run.id).where(Run.id == run_id).with_for_update()).first() is None:
                raise InputError(f"there is no run {run_id!r}; `penjing runs` lists the runs there are")
            unique = ("run_id", "turn", "attempt", "proposer", "candidate")
            _insert_new(session, (entry.proposal for entry in finished), *unique)
            _insert_new(session, (entry.evaluation for entry in finished), "key")
            proposals = _proposal_ids(session, run_id)
            evaluations = _evaluation_ids(session, {entry.evaluation.key for entry in finished})
            last = session.exec(select(func.max(Trial.number)).where(Trial.run_id == run_id)).one()
            numbers = dict(session.exec(select(Trial.proposal_id, Trial.number).where(Trial.run_id == run_id)).all())
            following, trials = 0 if last is None else last + 1, list[Trial]()
            for entry in finished:
                proposal_id = proposals[_place(entry.proposal)]
                if proposal_id in numbers:
                    continue
                numbers[proposal_id] = following + len(trials)
                trials.append(
                    Trial(
                        run_id=run_id,
                        number=numbers[proposal_id],
                        proposal_id=proposal_id,
                        evaluation_id=evaluations[entry.evaluation.key],
                        stage=entry.proposal.stage,
                        proposer=entry.proposal.proposer,
                        parent_number=entry.proposal.parent_number,
                        architecture_hash=entry.architecture.hash,
                        architecture=entry.architecture.model_dump(mode="json"),
                        cached=entry.cached,
                    )
                )
            _insert_new(session, trials, "proposal_id")
        return [numbers[proposals[_place(entry.proposal)]] for entry in finished]


def _insert_new(session: Session, rows: Iterable[SQLModel], *unique: str) -> None:
    """INSERT .. ON CONFLICT (unique columns) DO NOTHING, many rows a statement."""
    waiting = list(rows)
    if not waiting:
        return
    table = type(waiting[0]).__table__  # type: ignore[attr-defined]
    dialect: Any = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    for start in range(0, len(waiting), _ROWS):
        values = [storable(row.model_dump(exclude={"id"})) for row in waiting[start : start + _ROWS]]
        session.execute(dialect.insert(table).on_conflict_do_nothing(index_elements=unique), values)


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
