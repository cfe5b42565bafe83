"""What was read of the finished trials of a run: they do not change any more, and a search asks for them often."""

from collections.abc import Callable, Sequence

from sqlalchemy import func
from sqlmodel import Session, col, select

from memory.tables import Trial
from memory.views import TrialView

_MOST_RUNS = 4


class FinishedViews:
    """Keeps the views of the trials that have an evaluation; the others are read anew each time.

    One row tells whether trials came, finished or were deleted since, by whichever process.
    """

    def __init__(self) -> None:
        self._runs: dict[str, _Known] = {}

    def read(
        self, session: Session, run_id: str, read: Callable[[Session, Sequence[int]], list[TrialView]]
    ) -> list[TrialView]:
        """All trials of a run by number; `read` makes the views of those of these ids."""
        known = self._runs.get(run_id) or _Known()
        stamp = tuple(
            session.exec(
                select(
                    func.count(col(Trial.id)),
                    func.max(Trial.id),
                    func.count(col(Trial.evaluation_id)),
                    func.sum(Trial.evaluation_id),
                ).where(Trial.run_id == run_id)
            ).one()
        )
        ids = known.ids
        if stamp != known.stamp:
            query = select(Trial.id, Trial.number).where(Trial.run_id == run_id).order_by(col(Trial.number))
            ids = [trial_id for trial_id, _ in session.exec(query)]
        missing = [trial_id for trial_id in ids if trial_id not in known.views]
        fresh = {view.trial_id: view for view in read(session, missing)} if missing else {}
        finished = {trial_id: view for trial_id, view in fresh.items() if view.evaluation_key is not None}
        views = [known.views.get(trial_id) or fresh.get(trial_id) for trial_id in ids]
        if finished or stamp != known.stamp:
            kept = {trial_id: known.views[trial_id] for trial_id in ids if trial_id in known.views}
            self._runs.pop(run_id, None)
            self._runs[run_id] = _Known(stamp, ids, kept | finished)
            for oldest in list(self._runs)[:-_MOST_RUNS]:
                del self._runs[oldest]
        return [view for view in views if view is not None]


class _Known:
    def __init__(
        self,
        stamp: tuple[object, ...] = (),
        ids: list[int] | None = None,
        views: dict[int, TrialView] | None = None,
    ) -> None:
        self.stamp, self.ids, self.views = stamp, ids or [], views or {}
