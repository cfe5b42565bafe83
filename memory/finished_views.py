"""What was read of the finished trials of a run: they do not change any more, and a search asks for them often."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select
from sqlmodel import Session, col

from memory.tables import Trial
from memory.views import TrialView

_MOST_RUNS = 4
# Of an index alone, since what has no evaluation yet is read anew anyway; objects would take twice as long.
_OF_RUN = col(Trial.run_id) == bindparam("run")
_STAMP = select(func.count(col(Trial.id)), func.max(col(Trial.id))).where(_OF_RUN)
_IDS = select(col(Trial.id)).where(_OF_RUN).order_by(col(Trial.number))


class FinishedViews:
    """Keeps the views of the trials that have an evaluation; the others are read anew each time.

    One row tells whether trials came or were deleted since, by whichever process.
    """

    def __init__(self) -> None:
        self._runs: dict[str, _Known] = {}

    def read(
        self, session: Session, run_id: str, read: Callable[[Session, Sequence[int], str], list[TrialView]]
    ) -> list[TrialView]:
        """All trials of a run by number; `read` makes the views of its trials of these ids."""
        known, connection = self._runs.get(run_id) or _Known(), session.connection()
        stamp = tuple(connection.execute(_STAMP, {"run": run_id}).one())
        if stamp == known.stamp and not known.open:
            return list(known.views)
        views, missing = {view.trial_id: view for view in known.views}, known.open
        ids: Sequence[int] = list(views)
        if stamp != known.stamp:
            ids = list(connection.execute(_IDS, {"run": run_id}).scalars())
            missing = [trial_id for trial_id in ids if trial_id not in views or trial_id in known.open]
        if missing:
            views |= {view.trial_id: view for view in read(session, missing, run_id)}
        found = [views[trial_id] for trial_id in ids]
        unfinished = [trial_id for trial_id in missing if views[trial_id].evaluation_key is None]
        self._runs.pop(run_id, None)
        self._runs[run_id] = _Known(stamp, unfinished, found)
        for oldest in list(self._runs)[:-_MOST_RUNS]:
            self._runs.pop(oldest, None)
        return list(found)


@dataclass(frozen=True)
class _Known:
    """All trials of a run in their order, and the ids of those of them that had no evaluation yet."""

    stamp: tuple[object, ...] = ()
    open: Sequence[int] = ()
    views: Sequence[TrialView] = ()
