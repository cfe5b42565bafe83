"""What was read of the finished trials of a run: they do not change any more, and a search asks for them often."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func
from sqlmodel import Session, col, select

from memory.tables import Run, Trial
from memory.views import TrialView

_MOST_RUNS = 4
_STAMP = select(
    func.count(col(Trial.id)), func.max(Trial.id), func.count(col(Trial.evaluation_id)), func.sum(Trial.evaluation_id)
)


class FinishedViews:
    """Keeps the views of the trials that have an evaluation; the others are read anew each time.

    One row tells whether trials came, finished or were deleted since, by whichever process.
    """

    def __init__(self) -> None:
        self._runs: dict[str, _Known] = {}

    def read(
        self, session: Session, run_id: str, read: Callable[[Session, Sequence[int], Run], list[TrialView]]
    ) -> tuple[list[TrialView], Run | None]:
        """All trials of a run by number, and the run, of which what decides results is as it was at its beginning.

        `read` makes the views of the trials of these ids. The run is None where there is no trial.
        """
        known = self._runs.get(run_id) or _Known()
        stamp = tuple(session.exec(_STAMP.where(Trial.run_id == run_id)).one())
        ids, run = known.ids, known.run
        if stamp != known.stamp:
            query = select(Trial.id, Trial.number).where(Trial.run_id == run_id).order_by(col(Trial.number))
            ids = [trial_id for trial_id, _ in session.exec(query)]
            run = run or session.get(Run, run_id)
        if run is None or not ids:
            return [], None
        missing = [trial_id for trial_id in ids if trial_id not in known.views]
        fresh = {view.trial_id: view for view in read(session, missing, run)} if missing else {}
        views = {**known.views, **fresh}
        if fresh or stamp != known.stamp:
            kept = {trial_id: views[trial_id] for trial_id in ids if views[trial_id].evaluation_key is not None}
            self._runs.pop(run_id, None)
            self._runs[run_id] = _Known(stamp, ids, kept, run)
            for oldest in list(self._runs)[:-_MOST_RUNS]:
                del self._runs[oldest]
        return [views[trial_id] for trial_id in ids], run


@dataclass(frozen=True)
class _Known:
    stamp: tuple[object, ...] = ()
    ids: Sequence[int] = ()
    views: Mapping[int, TrialView] = field(default_factory=dict)
    run: Run | None = None
