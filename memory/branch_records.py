"""The beginning of a run copied under another name: what a branch goes on from."""

from sqlmodel import Session, col, select

from memory.database import Database
from memory.tables import Call, Promotion, Proposal, Run, Trial


class BranchRecords(Database):
    """Copies are rows of their own: nothing that is done with them changes what they were copied from."""

    def begin_branch(self, branch: Run) -> None:
        """Write the run `branch` down with the proposals, calls and trials of the turns before its first one.

        They are those of the run that it is a branch of. Trials keep their numbers and their evaluations, which are not
        paid for again.

        Raises:
            ValueError: `branch` is none of any run.
        """
        of, turns = branch.branch_of, branch.first_turn
        if of is None:
            raise ValueError(f"run {branch.id} is no branch")
        with self.writing() as session:
            session.add(branch)
            session.flush()
            for call in session.exec(select(Call).where(Call.run_id == of, Call.turn < turns).order_by(col(Call.id))):
                session.add(Call(**{**call.model_dump(exclude={"id"}), "run_id": branch.id}))
            copies = _copy_proposals(session, branch.id, of, turns)
            trials = select(Trial).where(Trial.run_id == of).order_by(col(Trial.id))
            for trial in session.exec(trials).all():
                if trial.proposal_id in copies:
                    row = {**trial.model_dump(exclude={"id"}), "run_id": branch.id, "cached": True}
                    copy = Trial(**{**row, "proposal_id": copies[trial.proposal_id]})
                    session.add(copy)
                    session.flush()
                    _copy_promotions(session, copy, trial, turns)


def _copy_promotions(session: Session, copy: Trial, trial: Trial, turns: int) -> None:
    """What came of those that were decided before the turn; the others are decided anew."""
    done = (Promotion.trial_id == trial.id, Promotion.turn < turns, col(Promotion.evaluation_id).is_not(None))
    for one in session.exec(select(Promotion).where(*done).order_by(col(Promotion.rung))).all():
        values = {"run_id": copy.run_id, "trial_id": copy.id, "cached": True}
        session.add(Promotion(**{**one.model_dump(exclude={"id"}), **values}))


def _copy_proposals(session: Session, branch: str, of: str, turns: int) -> dict[int, int]:
    """The ids of the copies, by the ids of what was copied."""
    query = select(Proposal).where(Proposal.run_id == of, Proposal.turn < turns).order_by(col(Proposal.id))
    copies: dict[int, int] = {}
    for proposal in session.exec(query).all():
        copy = Proposal(**{**proposal.model_dump(exclude={"id"}), "run_id": branch})
        session.add(copy)
        session.flush()
        copies[proposal.id] = copy.id
    return copies
