"""A run as its records have it at one moment: what pictures, the report and the page are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from graph.recorded_judges import recorded_judges
from memory.records import Records
from memory.tables import Run
from memory.views import TrialView
from penjing.figures import (
    Picture,
    best_so_far_picture,
    drops_picture,
    lineage_picture,
    pareto_picture,
    shapes_picture,
    training_picture,
)
from tools.architecture import Architecture
from tools.errors import InputError


@dataclass(frozen=True)
class Snapshot:
    """Trials by number, the judges' searches beside them, and the source model's own value and shapes where known."""

    run: Run
    trials: Sequence[TrialView]
    judges: Mapping[str, Sequence[Sequence[float | None]]] = field(default_factory=dict)
    source_value: float | None = None

    @cached_property
    def source(self) -> Architecture | None:
        """The shapes of the source model."""
        found = self.run.source_architecture
        return None if found is None else Architecture.model_validate(found)

    def trial(self, number: int) -> TrialView:
        """One trial. Raises InputError where the run has none of this number."""
        found = next((trial for trial in self.trials if trial.number == number), None)
        if found is None:
            have = f"its trials are 0 to {self.trials[-1].number}" if self.trials else "it has none yet"
            raise InputError(f"Run {self.run.id} has no trial {number}; {have}.")
        return found

    def pictures(self) -> list[Picture]:
        """Of the whole run: best so far, Pareto fronts over size and speed, lineage."""
        return list(self._pictures)

    @cached_property
    def _pictures(self) -> list[Picture]:
        return [
            best_so_far_picture(self.trials, self.judges, self.source_value),
            pareto_picture(self.trials),
            pareto_picture(self.trials, "latency_ms"),
            lineage_picture(self.trials),
        ]

    def trial_pictures(self, number: int) -> list[Picture]:
        """Of one trial: shapes, training, pruning. Raises InputError where the run has none of this number."""
        trial = self.trial(number)
        parent = None if trial.parent_number is None else self.trial(trial.parent_number)
        drops = () if trial.measurement is None else trial.measurement.drops
        return [
            shapes_picture(trial, parent, self.source),
            training_picture(number, trial.measurement),
            drops_picture(number, drops),
        ]


def read_snapshot(records: Records, name: str) -> Snapshot:
    """The run of this id, the beginning of one, or "latest". Raises InputError where there is none."""
    run = records.run(name)
    surveys = records.events(run.id, "survey")
    value = (
        surveys[-1].payload.get("accuracy" if run.config.get("objective") == "accuracy" else "loss")
        if surveys
        else None
    )
    return Snapshot(
        run=run,
        trials=records.trials(run.id),
        judges=recorded_judges(records, run),
        source_value=value if isinstance(value, float) else None,
    )
