"""Records of what was proposed and what was said: proposals, prompts, calls of chat models."""

from collections.abc import Collection
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import bindparam
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from memory.added_rows import AddedRows
from memory.database import Database, change, insert_if_new
from memory.tables import Call, Prompt, Proposal
from memory.values import storable

Row = TypeVar("Row")
_SAID: tuple[Any, ...] = (Call.messages, Call.answer, Call.faults)
_PLACE = ("run_id", "turn", "attempt", "proposer", "candidate")
_PLACED = select(Proposal).where(*(getattr(Proposal, name) == bindparam(name) for name in _PLACE))
_OF_RUN = select(Proposal).where(Proposal.run_id == bindparam("run")).order_by(col(Proposal.id))
_OF_TURNS = _OF_RUN.where(col(Proposal.turn).in_(bindparam("turns", expanding=True)))
_MADE = (
    select(col(Proposal.id), col(Proposal.stage), col(Proposal.attempt), col(Proposal.candidate))
    .where(col(Proposal.run_id) == bindparam("run"), col(Proposal.turn) == bindparam("turn"))
    .order_by(col(Proposal.id))
)


class MadeProposal(NamedTuple):
    """Which proposal of its turn it is."""

    id: int
    stage: str
    attempt: int
    candidate: int


class ProposalRecords(Database):
    """Proposals are unique in (run, turn, attempt, proposer, candidate), prompts in their hash."""

    def add_proposal(self, proposal: Proposal) -> Proposal:
        """Write a proposal down. Where its place is taken, the proposal that is there is returned and kept."""
        with self.writing() as session:
            insert_if_new(session, proposal, *_PLACE)
            return session.exec(_PLACED, params=proposal.model_dump(include=set(_PLACE))).one()

    def proposal(self, proposal_id: int) -> Proposal:
        """The proposal of this id; KeyError where there is none."""
        with self.reading() as session:
            return _present(session.get(Proposal, proposal_id), proposal_id)

    def proposals(self, run_id: str, turns: Collection[int] | None = None) -> list[Proposal]:
        """All proposals of a run, or those of these turns, in the order in which they were made."""
        with self.reading() as session:
            if turns is None:
                return list(session.exec(_OF_RUN, params={"run": run_id}))
            return list(session.exec(_OF_TURNS, params={"run": run_id, "turns": list(turns)}))

    def proposals_made(self, run_id: str, turn: int) -> list[MadeProposal]:
        """What there is of a turn, in the order in which it was made, without what it says."""
        with self.reading() as session:
            return [MadeProposal(*row) for row in session.connection().execute(_MADE, {"run": run_id, "turn": turn})]

    def update_proposal(self, proposal_id: int, **fields: Any) -> Proposal:
        """Change fields of a proposal and return it; KeyError where there is none."""
        with self.writing() as session:
            proposal = _present(session.get(Proposal, proposal_id), proposal_id)
            change(proposal, fields)
            return proposal

    def add_prompt(self, hash: str, name: str, text: str) -> Prompt:
        """Keep the text of a prompt under its hash. What is there already stays."""
        with self.writing() as session:
            insert_if_new(session, Prompt(hash=hash, name=name, text=text), "hash")
            return _present(session.get(Prompt, hash), hash)

    def prompt(self, hash: str) -> Prompt:
        """The prompt of this hash; KeyError where there is none."""
        with self.reading() as session:
            return _present(session.get(Prompt, hash), hash)

    def prompts(self) -> list[Prompt]:
        """All prompts, oldest first."""
        with self.reading() as session:
            return list(session.exec(select(Prompt).order_by(col(Prompt.created_at), col(Prompt.hash))))

    def add_call(self, call: Call) -> Call:
        """Write a call of a chat model down."""
        with self.writing() as session:
            row = Call(**storable(call.model_dump(exclude={"id"})))
            session.add(row)
            session.flush()
            return row

    def calls(self, run_id: str) -> list[Call]:
        """All calls of a run in the order in which they were made."""
        with self.reading() as session:
            return list(session.exec(select(Call).where(Call.run_id == run_id).order_by(col(Call.id))))

    def call_costs(self, run_id: str) -> list[Call]:
        """The same, without what was said in them."""
        with self.reading() as session:
            return self._costs.of(session, run_id)

    @cached_property
    def _costs(self) -> AddedRows[Call]:
        return AddedRows(Call, _costs_after)


def _costs_after(session: Session, run_id: str, after: int) -> list[tuple[int, Call]]:
    query = select(Call).where(Call.run_id == run_id, col(Call.id) > after).order_by(col(Call.id))
    return [(call.id, call) for call in session.exec(query.options(*map(defer, _SAID)))]


def _present(row: Row | None, key: object) -> Row:
    if row is None:
        raise KeyError(key)
    return row
