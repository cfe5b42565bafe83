"""Records of promotions: trials that are measured again on a higher rung, and what they measured there."""

from collections.abc import Mapping, Sequence

from sqlmodel import Session, col, select

from memory.database import Database, insert_if_new
from memory.tables import Evaluation, FinishedTrialError, Promotion, Run
from memory.views import RungView, TrialView
from tools.fidelity import FIDELITIES, FidelitySettings
from tools.measurement import Measurement


class PromotionRecords(Database):
    """A trial has at most one promotion to each rung above the first; they are added, and never changed."""

    def add_promotion(self, promotion: Promotion) -> Promotion:
        """Write down that a trial goes up. Where it is on that rung already, what is there stays and is returned."""
        with self.writing() as session:
            insert_if_new(session, promotion, "trial_id", "rung")
            query = select(Promotion).where(Promotion.trial_id == promotion.trial_id, Promotion.rung == promotion.rung)
            return session.exec(query).one()

    def promotions(self, run_id: str) -> list[Promotion]:
        """Those of a run, in their order."""
        with self.reading() as session:
            return list(session.exec(select(Promotion).where(Promotion.run_id == run_id).order_by(col(Promotion.id))))

    def finish_promotion(self, trial_id: int, rung: int, key: str) -> Promotion:
        """Give a trial the recorded evaluation of this key on a rung, once. Repeating the same is harmless.

        It counts as cached unless its own run paid, and for no other trial.

        Raises:
            FinishedTrialError: it has another one there.
            KeyError: there is no such promotion, or no such evaluation.
        """
        with self.writing() as session:
            places = (Promotion.trial_id == trial_id, Promotion.rung == rung)
            promotion = session.exec(select(Promotion).where(*places).with_for_update()).first()
            found = session.exec(select(Evaluation).where(Evaluation.key == key)).first()
            if promotion is None or found is None:
                raise KeyError((trial_id, rung, key))
            if promotion.evaluation_id == found.id:
                return promotion
            if promotion.evaluation_id is not None:
                raise FinishedTrialError(
                    f"rung {rung} of a trial of run {promotion.run_id} is finished and cannot be changed"
                )
            same = (Promotion.run_id == promotion.run_id, Promotion.evaluation_id == found.id)
            other = session.exec(select(Promotion.id).where(*same).limit(1)).first()
            promotion.cached = found.run_id != promotion.run_id or other is not None
            promotion.evaluation_id = found.id
            session.flush()
            return promotion


def ladder_of(run: Run) -> tuple[str, ...]:
    """The fidelities at which a run measures; one of before there was a choice has its default."""
    return tuple(run.config.get("fidelities") or FidelitySettings().fidelities)


def told_ladder(run: Run) -> tuple[str, ...]:
    """The same, where there is more than one of them, so that figures are told with theirs; else none."""
    ladder = ladder_of(run)
    return ladder if len(ladder) > 1 else ()


def first_rung_of(run: Run) -> tuple[object, ...]:
    """What decides, beside the recipe, how a run measures where all its trials are."""
    first = ladder_of(run)[0]
    # Only the long training is longer than its recipe says.
    longer = ("reduction_factor", "long_training_steps") if first == FIDELITIES[-1] else ()
    return (first, *(run.config.get(name) for name in longer))


def with_rungs(session: Session, views: Sequence[TrialView], told: Mapping[str, tuple[str, ...]]) -> list[TrialView]:
    """Trials with what they measured on all rungs; `told` are the ladders of their runs, see `told_ladder`."""
    ladders = {run_id: ladder for run_id, ladder in told.items() if ladder}
    if not ladders:
        return list(views)
    wanted = {view.trial_id for view in views if view.run_id in ladders}
    query = (
        select(Promotion, Evaluation)
        .join(Evaluation, col(Evaluation.id) == col(Promotion.evaluation_id), isouter=True)
        .where(col(Promotion.run_id).in_(ladders))
        .order_by(col(Promotion.trial_id), col(Promotion.rung))
    )
    above: dict[int, list[RungView]] = {}
    for promotion, evaluation in session.exec(query):
        if promotion.trial_id in wanted:
            above.setdefault(promotion.trial_id, []).append(_rung(promotion, evaluation))
    return [
        _climbed(view, ladders[view.run_id], above.get(view.trial_id, [])) if view.run_id in ladders else view
        for view in views
    ]


def _rung(promotion: Promotion, evaluation: Evaluation | None) -> RungView:
    return RungView(
        rung=promotion.rung,
        fidelity=promotion.fidelity,
        rank=promotion.rank,
        rivals=promotion.rivals,
        measurement=None if evaluation is None else Measurement.model_validate(evaluation.measurement),
        evaluation_key=None if evaluation is None else evaluation.key,
        cached=promotion.cached,
    )


def _climbed(view: TrialView, ladder: tuple[str, ...], above: Sequence[RungView]) -> TrialView:
    """The trial with the figures of the highest rung at which it was grown."""
    first = RungView(
        rung=0,
        fidelity=ladder[0],
        measurement=view.measurement,
        evaluation_key=view.evaluation_key,
        cached=view.cached,
    )
    rungs = (first, *above)
    view = view.model_copy(update={"ladder": ladder, "rungs": rungs})
    grown = [rung for rung in rungs if rung.succeeded]
    return view.on_rung(grown[-1]) if grown else view
