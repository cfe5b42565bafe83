"""Records of other runs, as far as they compare with those of one."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy.orm import aliased
from sqlmodel import col, select

from memory.database import Database
from memory.tables import Evaluation, Run, Trial
from tools.architecture import Architecture
from tools.measurement import Measurement


class FinishedDesign(NamedTuple):
    """A finished trial's design, its canonical hash, what was measured of it, and what of its parent, if it has one."""

    run_id: str
    architecture: Architecture
    hash: str
    measurement: Measurement
    parent: Measurement | None


class PastRecords(Database):
    """Finished designs of any runs, and the best trials of several."""

    def runs_named(self, ids: Collection[str]) -> dict[str, Run]:
        """The runs of these ids, by id; without those that there are not."""
        with self.reading() as session:
            return {run.id: run for run in session.exec(select(Run).where(col(Run.id).in_(ids)))}

    def run_ids(self, source: str, corpus: str) -> list[str]:
        """Ids of all runs with this source and corpus."""
        with self.reading() as session:
            query = select(Run.id).where(Run.source == source, Run.corpus == corpus)
            return list(session.exec(query.order_by(col(Run.id))))

    def known_run_ids(self, ids: Collection[str]) -> set[str]:
        """Those of these ids that runs have."""
        with self.reading() as session:
            return set(session.exec(select(Run.id).where(col(Run.id).in_(sorted(ids)))))

    def finished_designs(self, names: Iterable[str]) -> dict[str, FinishedDesign]:
        """The finished trials of these names, `RUN/NUMBER`, of any runs, by name; without those that there are not.

        Only the columns that are told are read, since rows of trials are large.
        """
        parts = [name.rpartition("/") for name in names]
        places = {(run_id, int(number)) for run_id, _, number in parts}
        if not places:
            return {}
        # SQLite looks up lists of values by an index, and lists of pairs by looking at everything.
        run_ids, numbers = {run_id for run_id, _ in places}, {number for _, number in places}
        around = select(Trial.id, Trial.run_id, Trial.number).where(
            col(Trial.run_id).in_(run_ids), col(Trial.number).in_(numbers)
        )
        above, measured_above = aliased(Trial), aliased(Evaluation)
        query = (
            select(  # type: ignore[call-overload]
                Trial.run_id,
                Trial.number,
                Trial.architecture,
                Trial.architecture_hash,
                Evaluation.measurement,
                measured_above.measurement,
            )
            .select_from(Trial)
            .join(Evaluation, col(Evaluation.id) == col(Trial.evaluation_id))
            .outerjoin(
                above, (col(above.run_id) == col(Trial.run_id)) & (col(above.number) == col(Trial.parent_number))
            )
            .outerjoin(measured_above, col(measured_above.id) == col(above.evaluation_id))
        )
        with self.reading() as session:
            ids = [id for id, run_id, number in session.exec(around) if (run_id, number) in places]
            rows = session.exec(query.where(col(Trial.id).in_(ids))).all()
        return {
            f"{run_id}/{number}": FinishedDesign(
                run_id,
                Architecture.model_validate(design),
                hash,
                Measurement.model_validate(measurement),
                None if of_parent is None else Measurement.model_validate(of_parent),
            )
            for run_id, number, design, hash, measurement, of_parent in rows
        }

    def leading_trials(self, run_ids: Sequence[str], limit: int, objective: str, sizes: tuple[int, int]) -> list[str]:
        """Ids `RUN/NUMBER` of the best finished trials of these runs, the best first, of these sizes in parameters.

        The best have the lowest loss, or, where the `objective` is accuracy, the highest one. Trials that share an
        evaluation count once, as the first of them.
        """
        accuracy = col(Evaluation.measurement)["accuracy"].as_float()
        score = col(Evaluation.loss) if objective == "loss" else -accuracy
        wanted = col(Trial.run_id).in_(run_ids)
        # By an index evaluations come in the order of their losses, so that only the first few are looked at.
        best = (
            select(Evaluation.id)
            .where(
                Evaluation.status == "done",
                score.is_not(None),
                col(Evaluation.parameters).between(*sizes),
                select(Trial.id).where(col(Trial.evaluation_id) == col(Evaluation.id), wanted).exists(),
            )
            .order_by(score, col(Evaluation.id))
            .limit(limit)
        )
        with self.reading() as session:
            order = list(session.exec(best))
            rows = session.exec(
                select(Trial.evaluation_id, Trial.run_id, Trial.number)
                .where(col(Trial.evaluation_id).in_(order))
                .order_by(col(Trial.id).desc())
            )
            within = set(run_ids)
            first = {id: f"{run_id}/{number}" for id, run_id, number in rows if run_id in within}
        return [first[id] for id in order]
