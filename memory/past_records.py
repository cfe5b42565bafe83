"""Records of other runs, as far as they compare with those of one."""

from collections.abc import Collection, Sequence

from sqlmodel import col, func, select

from memory.database import Database
from memory.tables import Evaluation, Run, Trial
from memory.trial_records import measured_alike
from tools.errors import InputError


class PastRecords(Database):
    """Which runs measure as another one does, and the best trials of several."""

    def runs_named(self, ids: Collection[str]) -> dict[str, Run]:
        """The runs of these ids, by id; without those that there are not."""
        with self.reading() as session:
            return {run.id: run for run in session.exec(select(Run).where(col(Run.id).in_(ids)))}

    def runs_alike(self, run_id: str) -> list[str]:
        """Ids of other runs with the source, corpus, data and recipe of this one; seeds may differ.

        Raises:
            InputError: there is no such run.
        """
        with self.reading() as session:
            own = session.get(Run, run_id)
            if own is None:
                raise InputError(f"there is no run {run_id!r}; `penjing runs` lists the runs there are")
            query = select(Run).where(Run.id != run_id, Run.source == own.source, Run.corpus == own.corpus)
            return [run.id for run in session.exec(query.order_by(col(Run.id))) if measured_alike(run, own)]

    def leading_trials(self, run_ids: Sequence[str], limit: int, objective: str, sizes: tuple[int, int]) -> list[str]:
        """Ids `RUN/NUMBER` of the best finished trials of these runs, the best first, of these sizes in parameters.

        The best have the lowest loss, or, where the `objective` is accuracy, the highest one. Trials that share an
        evaluation count once, as the first of them.
        """
        accuracy = col(Evaluation.measurement)["accuracy"].as_float()
        score = col(Evaluation.loss) if objective == "loss" else -accuracy
        first = func.min(Trial.id)
        query = (
            select(first, score)
            .join(Evaluation, col(Evaluation.id) == col(Trial.evaluation_id))
            .where(
                col(Trial.run_id).in_(run_ids),
                Evaluation.status == "done",
                col(Evaluation.parameters).between(*sizes),
                score.is_not(None),
            )
            .group_by(col(Evaluation.id), score)
            .order_by(score, first)
            .limit(limit)
        )
        with self.reading() as session:
            order = [id for id, _ in session.exec(query)]
            rows = session.exec(select(Trial.id, Trial.run_id, Trial.number).where(col(Trial.id).in_(order)))
            names = {id: f"{run_id}/{number}" for id, run_id, number in rows}
        return [names[id] for id in order]
