"""By what the trials of a run are judged: what it is after, and its ladder of fidelities."""

from collections.abc import Collection
from dataclasses import dataclass, field

from sqlmodel import Session, col, select

from memory.promotion_records import told_ladder
from memory.tables import Run
from tools.settings import GoalSettings

_MOST_RUNS = 10_000


def goal_of(run: Run) -> GoalSettings:
    """What the run is after, as its settings say it; a run of before there was a setting has its default."""
    return GoalSettings.model_validate(
        {name: run.config[name] for name in GoalSettings.model_fields.keys() & run.config}
    )


@dataclass
class Judging:
    """Read once for each run: its settings are long, and these of them stay as they were at its beginning."""

    _known: dict[str, tuple[GoalSettings, tuple[str, ...]]] = field(default_factory=dict)

    def goals(self, session: Session, run_ids: Collection[str]) -> dict[str, GoalSettings]:
        """What each of these runs is after."""
        return {run_id: goal for run_id, (goal, _) in self._read(session, run_ids).items()}

    def ladders(self, session: Session, run_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
        """The fidelities of each of these runs where there is more than one of them, else none; see `told_ladder`."""
        return {run_id: ladder for run_id, (_, ladder) in self._read(session, run_ids).items()}

    def _read(self, session: Session, run_ids: Collection[str]) -> dict[str, tuple[GoalSettings, tuple[str, ...]]]:
        if missing := [run_id for run_id in run_ids if run_id not in self._known]:
            if len(self._known) > _MOST_RUNS:
                self._known.clear()
                missing = list(run_ids)
            for run in session.exec(select(Run).where(col(Run.id).in_(missing))):
                self._known[run.id] = goal_of(run), told_ladder(run)
        return {run_id: self._known[run_id] for run_id in run_ids}
