"""What was read of the trials of a run: most do not change any more, and a search asks for them often."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter, is_

from sqlalchemy import bindparam, func, select
from sqlmodel import Session, col

from memory.tables import Trial
from memory.trial_sequence import TrialSequence
from memory.views import TrialView

_MOST_RUNS = 4
_NONE = TrialSequence()
# Of an index alone, since what has no evaluation yet is read anew anyway; objects would take twice as long.
_OF_RUN = col(Trial.run_id) == bindparam("run")
_STAMP = select(func.count(col(Trial.id)), func.max(col(Trial.id))).where(_OF_RUN)
_ADDED = select(col(Trial.id)).where(_OF_RUN, col(Trial.id) > bindparam("last")).order_by(col(Trial.id))


class FinishedViews:
    """Keeps the views of the trials that have an evaluation; the others are read anew each time.

    One row tells whether trials came or were deleted since, by whichever process.
    """

    def __init__(self) -> None:
        self._runs: dict[str, _Known] = {}

    def read(
        self, session: Session, run_id: str, read: Callable[[Session, Sequence[int], str], list[TrialView]]
    ) -> TrialSequence:
        """All trials of a run by number; `read` makes the views of its trials of these ids."""
        number, last = session.connection().execute(_STAMP, {"run": run_id}).one()
        known = self._runs.pop(run_id, _Known())
        if (number, last or 0) != (len(known.views), known.last) or known.open:
            known = _with_new(session, run_id, read, known, last or 0)
            if len(known.views) != number:
                # It was forgotten, and imported again.
                known = _with_new(session, run_id, read, _Known(), last or 0)
        self._runs[run_id] = known
        for oldest in list(self._runs)[:-_MOST_RUNS]:
            self._runs.pop(oldest, None)
        return known.views


@dataclass(frozen=True)
class _Known:
    """All trials of a run, the highest id of them, and the ids of those that had no evaluation yet."""

    last: int = 0
    open: Sequence[int] = ()
    views: TrialSequence = _NONE


def _with_new(
    session: Session,
    run_id: str,
    read: Callable[[Session, Sequence[int], str], list[TrialView]],
    known: _Known,
    last: int,
) -> _Known:
    added: Sequence[int] = ()
    if last > known.last:
        added = list(session.connection().execute(_ADDED, {"run": run_id, "last": known.last}).scalars())
    fresh = {view.trial_id: view for view in read(session, [*known.open, *added], run_id)}
    unfinished = [view.trial_id for view in fresh.values() if view.evaluation_key is None]
    # What has not changed stays the same object.
    views = list(known.views)
    for place in [place for place, view in enumerate(views) if view.trial_id in fresh]:
        view = fresh[views[place].trial_id]
        views[place] = views[place] if views[place] == view else view
    new = [fresh[trial_id] for trial_id in added]
    if not new and all(map(is_, views, known.views)):
        return _Known(last, unfinished, known.views)
    views = sorted([*views, *new], key=attrgetter("number"))
    return _Known(last, unfinished, TrialSequence(views, known.views))
