"""Records as the vector store needs them: what belongs into it, counted and named without loading it."""

from sqlalchemy import ColumnElement
from sqlmodel import col, func, select

from memory.database import Database
from memory.tables import Prompt, Proposal, Run, Trial
from memory.vector_collections import CollectionName


class IndexRecords(Database):
    """Indexed are finished trials of runs whose source architecture is known, their rationale, and all prompts."""

    def indexed_counts(self) -> dict[CollectionName, int]:
        """How many entries each collection of the vector store should have."""
        on_postgresql = self.engine.dialect.name == "postgresql"
        length = func.jsonb_array_length if on_postgresql else func.json_array_length
        with self.reading() as session:
            trials, lessons = session.exec(
                select(func.count(), func.coalesce(func.sum(length(Proposal.rationale)), 0))
                .select_from(Trial)
                .join(Proposal, col(Proposal.id) == col(Trial.proposal_id))
                .join(Run, col(Run.id) == col(Trial.run_id))
                .where(*_indexed())
            ).one()
            prompts = session.exec(select(func.count()).select_from(Prompt)).one()
        return {"architectures": trials, "lessons": lessons, "prompts": prompts}

    def indexed_designs(self) -> int:
        """How many designs should be there; it takes milliseconds where counting lessons takes seconds.

        All of a run less the unfinished, since both are read from indexes alone: rows of trials are large.
        """
        with self.reading() as session:
            runs = select(Run.id).where(col(Run.source_architecture).is_not(None))
            query = select(func.count()).select_from(Trial).where(col(Trial.run_id).in_(runs))
            unfinished = query.where(col(Trial.evaluation_id).is_(None))
            return session.exec(query).one() - session.exec(unfinished).one()

    def prompt_count(self) -> int:
        """How many prompts there are."""
        with self.reading() as session:
            return session.exec(select(func.count()).select_from(Prompt)).one()

    def newest_indexed(self, count: int) -> list[str]:
        """The names of the trials that came last, `RUN/NUMBER`."""
        with self.reading() as session:
            rows = session.exec(
                select(Trial.run_id, Trial.number)
                .join(Run, col(Run.id) == col(Trial.run_id))
                .where(*_indexed())
                .order_by(col(Trial.id).desc())
                .limit(count)
            ).all()
        return [f"{run_id}/{number}" for run_id, number in rows]

    def indexed_trials(self) -> dict[str, dict[int, int]]:
        """For each run the numbers of its indexed trials, each with how many lines of rationale it has."""
        found: dict[str, dict[int, int]] = {}
        with self.reading() as session:
            rows = session.exec(
                select(Trial.run_id, Trial.number, Proposal.rationale)
                .select_from(Trial)
                .join(Proposal, col(Proposal.id) == col(Trial.proposal_id))
                .join(Run, col(Run.id) == col(Trial.run_id))
                .where(*_indexed())
            )
            for run_id, number, rationale in rows:
                found.setdefault(run_id, {})[number] = len(rationale)
        return found


def _indexed() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return col(Trial.evaluation_id).is_not(None), col(Run.source_architecture).is_not(None)
