"""Records of other runs, as far as they compare with those of one."""

from collections.abc import Sequence

from sqlmodel import col, select

from memory.database import Database
from memory.tables import Evaluation, Run, Trial
from memory.trial_records import measured_alike
from tools.errors import InputError


class PastRecords(Database):
    """Which runs measure as another one does, and the best trials of several."""

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

        The best have the lowest loss, or, where the `objective` is accuracy, the highest one.
        """
        by_loss = objective == "loss"
        accuracy = col(Evaluation.measurement)["accuracy"].as_float()
        order = col(Evaluation.loss) if by_loss else accuracy.desc()
        query = (
            select(Trial.run_id, Trial.number)
            .join(Evaluation, col(Evaluation.id) == col(Trial.evaluation_id))
            .where(
                col(Trial.run_id).in_(run_ids),
                Evaluation.status == "done",
                col(Evaluation.parameters).between(*sizes),
                (col(Evaluation.loss) if by_loss else accuracy).is_not(None),
            )
            .order_by(order, col(Trial.id))
            .limit(limit)
        )
        with self.reading() as session:
            return [f"{run_id}/{number}" for run_id, number in session.exec(query)]
