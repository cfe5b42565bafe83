"""Records as the vector store needs them: what belongs into it, counted and named without loading it."""

from collections.abc import Collection

from sqlalchemy import ColumnElement
from sqlmodel import col, func, select

from memory.database import Database
from memory.indexed_trial import IndexedTrial
from memory.open_collections import CollectionName
from memory.tables import Evaluation, Prompt, Proposal, Run, Trial
from tools.architecture import Architecture


class IndexRecords(Database):
    """Indexed are finished trials of runs whose source architecture is known, their rationale, and all prompts."""

    def indexed_counts(self) -> dict[CollectionName, int]:
        """How many entries each collection of the vector store should have; counting lessons takes seconds."""
        on_postgresql = self.engine.dialect.name == "postgresql"
        length = func.jsonb_array_length if on_postgresql else func.json_array_length
        with self.reading() as session:
            rows = session.exec(
                select(Evaluation.status, func.count(), func.coalesce(func.sum(length(Proposal.rationale)), 0))
                .select_from(Trial)
                .join(Evaluation, col(Evaluation.id) == col(Trial.evaluation_id))
                .join(Proposal, col(Proposal.id) == col(Trial.proposal_id))
                .join(Run, col(Run.id) == col(Trial.run_id))
                .where(*_indexed())
                .group_by(Evaluation.status)
            ).all()
            prompts = session.exec(select(func.count()).select_from(Prompt)).one()
        designs = {status: count for status, count, _ in rows}
        return {
            "architectures": designs.get("done", 0),
            "failures": designs.get("failed", 0),
            "lessons": sum(lessons for _, _, lessons in rows),
            "prompts": prompts,
        }

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

    def indexable_trials(self, run_id: str, numbers: Collection[int] | None = None) -> list[IndexedTrial]:
        """The finished trials of a run, all or those of these numbers, as the vector store takes them."""
        query = (
            select(Run, Trial.number, Trial.architecture, Evaluation.fidelity, Evaluation.status, Proposal.rationale)  # type: ignore[call-overload]
            .select_from(Trial)
            .join(Evaluation, col(Evaluation.id) == col(Trial.evaluation_id))
            .join(Proposal, col(Proposal.id) == col(Trial.proposal_id))
            .join(Run, col(Run.id) == col(Trial.run_id))
            .where(Trial.run_id == run_id, *_indexed())
            .order_by(col(Trial.number))
        )
        if numbers is not None:
            query = query.where(col(Trial.number).in_(numbers))
        with self.reading() as session:
            rows = session.exec(query).all()
        if not rows:
            return []
        reference = Architecture.model_validate(rows[0][0].source_architecture)
        return [
            IndexedTrial(
                run_id,
                number,
                run.source,
                run.corpus,
                fidelity,
                status == "done",
                Architecture.model_validate(design),
                reference,
                rationale,
            )
            for run, number, design, fidelity, status, rationale in rows
        ]

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
