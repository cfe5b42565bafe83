"""What was read of the finished trials of a run: they do not change any more, and a search asks for them often."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

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
        ids = known.ids
        if stamp != known.stamp:
            ids = list(connection.execute(_IDS, {"run": run_id}).scalars())
        missing = [trial_id for trial_id in ids if trial_id not in known.views]
        fresh = {view.trial_id: view for view in read(session, missing, run_id)} if missing else {}
        views = {**known.views, **fresh}
        if fresh or stamp != known.stamp:
            kept = {trial_id: views[trial_id] for trial_id in ids if views[trial_id].evaluation_key is not None}
            self._runs.pop(run_id, None)
            self._runs[run_id] = _Known(stamp, ids, kept)
            for oldest in list(self._runs)[:-_MOST_RUNS]:
                del self._runs[oldest]
        return [views[trial_id] for trial_id in ids]


@dataclass(frozen=True)
class _Known:
    stamp: tuple[object, ...] = ()
    ids: Sequence[int] = ()
    views: Mapping[int, TrialView] = field(default_factory=dict)
