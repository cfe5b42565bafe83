"""Records of what users were asked before a trial was paid for, and what they decided."""

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import bindparam
from sqlmodel import Session, col, select

from memory.database import Database, change, insert_if_new
from memory.ledger import EDITED, REJECTED_BY_USER
from memory.tables import Approval, Proposal, Trial, now
from tools.architecture import Architecture
from tools.errors import InputError

Decision = Literal["accept", "edit", "reject"]
_OF_RUN = select(Approval).where(Approval.run_id == bindparam("run")).order_by(col(Approval.trial))
_WAITING = _OF_RUN.where(col(Approval.decision).is_(None))
DECIDED = {"accept": "accepted", "edit": "edited", "reject": "rejected"}


class ApprovalRecords(Database):
    """A trial is asked about once; of several who decide at the same time the first one counts."""

    def ask_approval(self, approval: Approval) -> Approval:
        """Write down that a trial waits for its user. What is there of it already is returned and kept."""
        with self.writing() as session:
            insert_if_new(session, approval, "run_id", "trial")
            found = _find(session, approval.run_id, approval.trial)
            assert found is not None  # noqa: S101 - it was there, or was just put there
            return found

    def approvals(self, run_id: str, waiting: bool = False) -> list[Approval]:
        """All approvals of a run by number of the trial, or only those that nobody has decided."""
        with self.reading() as session:
            return list(session.exec(_WAITING if waiting else _OF_RUN, params={"run": run_id}))

    def waiting_approvals(self) -> dict[str, list[int]]:
        """The trials that wait for a decision, by run."""
        query = select(Approval.run_id, Approval.trial).where(col(Approval.decision).is_(None))
        found: dict[str, list[int]] = {}
        with self.reading() as session:
            for run_id, trial in session.exec(query.order_by(col(Approval.trial))):
                found.setdefault(run_id, []).append(trial)
        return found

    def decide_approval(
        self,
        run_id: str,
        number: int,
        decision: Decision,
        design: Architecture | None = None,
        words: str = "",
        notes: Sequence[str] = (),
    ) -> Approval:
        """Write down what was decided of a trial, with all that comes of it, at once or not at all.

        Args:
            design: what the trial becomes, where it was edited; `notes` say what was changed.
            words: for its author, where it was rejected; its proposal is then a rejected one.

        Raises:
            InputError: nobody was asked about this trial, it was decided already, or another trial of the run has the
                edited design.
        """
        with self.writing() as session:
            # Two rows may be changed at once on PostgreSQL, one may not.
            approval = _find(session, run_id, number, lock=True)
            if approval is None:
                raise InputError(f"Trial {number} of run {run_id} does not wait for a decision.")
            if approval.decision is not None:
                raise InputError(f"Trial {number} of run {run_id} was {DECIDED[approval.decision]} already.")
            trial = session.exec(select(Trial).where(Trial.run_id == run_id, Trial.number == number)).one()
            proposal = session.exec(select(Proposal).where(Proposal.id == trial.proposal_id)).one()
            if decision == "edit" and design is not None:
                _require_new(session, run_id, design)
                plain = design.model_dump(mode="json")
                change(trial, {"architecture": plain, "architecture_hash": design.hash})
                fields: dict[str, Any] = {"outcome": EDITED, "architecture": plain, "notes": [*proposal.notes, *notes]}
                change(proposal, fields | {"forecast": None, "expected_score": None, "expected_deviation": None})
                change(approval, {"design": plain})
            elif decision == "reject":
                made = Architecture.model_validate(trial.architecture).describe()
                # Its author knows nothing of what was changed to make it legal.
                what = f"the design that was made of it ({made})" if proposal.notes else "this design"
                problems = [*proposal.problems, f"{REJECTED_BY_USER} {what}: {words}"]
                change(proposal, {"outcome": "rejected", "problems": problems})
            change(approval, {"decision": decision, "words": words, "decided_at": now()})
            return approval


def _find(session: Session, run_id: str, number: int, lock: bool = False) -> Approval | None:
    query = select(Approval).where(Approval.run_id == run_id, Approval.trial == number)
    return session.exec(query.with_for_update() if lock else query).first()


def _require_new(session: Session, run_id: str, design: Architecture) -> None:
    query = select(Trial.number).where(Trial.run_id == run_id, Trial.architecture_hash == design.hash)
    known = session.exec(query).first()
    if known is not None:
        raise InputError(f"Trial {known} of run {run_id} has just become this design; edit it otherwise.")
