"""How much the records hold, and what of it was used again."""

from typing import Any

import sqlalchemy
from pydantic import BaseModel
from sqlmodel import SQLModel, col, func, select

from memory.database import Database
from memory.tables import Call, Evaluation, Prompt, Proposal, Run, RunEvent, Span, Trial


class Overview(BaseModel):
    """Counts over all runs; evaluations by fidelity and then by `done` or `failed`.

    `hits` are trials that got an evaluation that was paid for before, `seconds_saved` what these evaluations took.
    """

    runs: dict[str, int]
    imported_runs: int
    trials: int
    finished_trials: int
    evaluations: dict[str, dict[str, int]]
    lessons: int
    prompts: int
    proposals: int
    calls: int
    hits: int
    seconds_saved: float


class OverviewRecords(Database):
    """Counts; nothing is loaded for them but what was used again."""

    def overview(self) -> Overview:
        """All counts as they are at one moment."""
        with self.reading() as session:
            runs = session.exec(select(Run.status, func.count()).group_by(Run.status)).all()
            imported = select(func.count()).select_from(Run).where(col(Run.imported_at).is_not(None))
            finished = select(func.count()).select_from(Trial).where(col(Trial.evaluation_id).is_not(None))
            evaluations: dict[str, dict[str, int]] = {}
            query = select(Evaluation.fidelity, Evaluation.status, func.count())
            for fidelity, status, count in session.exec(query.group_by(Evaluation.fidelity, Evaluation.status)):
                evaluations.setdefault(fidelity, {})[status] = count
            on_postgresql = self.engine.dialect.name == "postgresql"
            length = func.jsonb_array_length if on_postgresql else func.json_array_length
            lessons = (
                select(func.coalesce(func.sum(length(Proposal.rationale)), 0))
                .select_from(Trial)
                .join(Proposal, col(Proposal.id) == col(Trial.proposal_id))
                .where(col(Trial.evaluation_id).is_not(None))
            )
            used = (
                select(Evaluation.measurement)
                .join(Trial, col(Trial.evaluation_id) == col(Evaluation.id))
                .where(col(Trial.cached))
            )
            saved = [float(measurement.get("seconds", 0.0)) for measurement in session.exec(used)]
            counts = {
                table.__name__: session.exec(select(func.count()).select_from(table)).one()
                for table in (Trial, Prompt, Proposal, Call)
            }
            return Overview(
                runs=dict(runs),
                imported_runs=session.exec(imported).one(),
                trials=counts["Trial"],
                finished_trials=session.exec(finished).one(),
                evaluations=evaluations,
                lessons=session.exec(lessons).one(),
                prompts=counts["Prompt"],
                proposals=counts["Proposal"],
                calls=counts["Call"],
                hits=len(saved),
                seconds_saved=sum(saved),
            )

    def trial_counts(self) -> dict[str, int]:
        """How many trials each run has; without those that have none."""
        with self.reading() as session:
            return dict(session.exec(select(Trial.run_id, func.count()).group_by(Trial.run_id)).all())

    def marks(self, run_id: str) -> tuple[object, ...]:
        """What changes whenever something of a run does, and whenever anything is evaluated: cheap to read."""

        def count(table: type[SQLModel], *conditions: Any) -> Any:
            return select(func.count()).select_from(table).where(*conditions).scalar_subquery()

        query = sqlalchemy.select(
            count(Trial, col(Trial.run_id) == run_id),
            count(Trial, col(Trial.run_id) == run_id, col(Trial.evaluation_id).is_not(None)),
            count(Proposal, col(Proposal.run_id) == run_id),
            count(Call, col(Call.run_id) == run_id),
            count(RunEvent, col(RunEvent.run_id) == run_id),
            count(Span, col(Span.run_id) == run_id),
            count(Span, col(Span.run_id) == run_id, col(Span.ended_at).is_not(None)),
            count(Evaluation),
        )
        with self.reading() as session:
            state = session.exec(select(Run.status, Run.message, Run.finished_at).where(Run.id == run_id)).first()
            return (*(state or ()), *session.execute(query).one())

    def prompt_uses(self) -> dict[str, set[str]]:
        """The runs in which each prompt template, by its hash, was used."""
        uses: dict[str, set[str]] = {}
        with self.reading() as session:
            for table in (Proposal, Call):
                query = select(table.prompt_hash, table.run_id).where(col(table.prompt_hash).is_not(None)).distinct()
                for hash, run_id in session.exec(query):
                    uses.setdefault(str(hash), set()).add(run_id)
        return uses
