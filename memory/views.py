"""A trial as everybody reads it: the trial, the proposal behind it and the evaluation it got, in one plain object."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from tools.architecture import Architecture
from tools.costs import Excess, file_mb, latency_excess, memory_mb
from tools.measurement import Measurement
from tools.settings import GoalSettings


class Judged(BaseModel):
    """What a trial was found to be, None until it is evaluated, and the `goal` that it is judged by.

    The same evaluation may be within the limits of one run and over those of another.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    measurement: Measurement | None
    goal: GoalSettings = GoalSettings()

    @property
    def loss(self) -> float | None:
        """Validation loss in nats per token, None where there is none."""
        return self.measurement.loss if self.measurement else None

    @property
    def succeeded(self) -> bool:
        """Whether it was evaluated and has a loss."""
        return self.measurement is not None and self.measurement.succeeded

    @property
    def accuracy(self) -> float | None:
        """Mean zero-shot accuracy, a share, None where it was not measured."""
        return self.measurement.accuracy if self.measurement else None

    @property
    def score(self) -> float | None:
        """What decides in its run, the lower the better: the loss, or the accuracy with its sign turned."""
        if self.goal.objective == "loss":
            return self.loss
        return None if self.accuracy is None else -self.accuracy

    @property
    def over_limit(self) -> Excess | None:
        """The measured limit of its run that it breaks."""
        return latency_excess(self.measurement.latency_ms if self.measurement else None, self.goal)

    @property
    def acceptable(self) -> bool:
        """Whether it succeeded within the limits of its run, so that it may be the best."""
        return self.succeeded and self.score is not None and self.over_limit is None


class TrialView(Judged):
    """One design of a run with its origin and its figures; `goal` is what its run is after."""

    trial_id: int
    run_id: str
    number: int
    stage: str
    proposer: str
    parent_number: int | None
    architecture: Architecture
    rationale: tuple[str, ...]
    outcome: str
    forecast: float | None
    expected_score: float | None = None
    expected_deviation: float | None = None
    cached: bool
    prompt_hash: str | None
    based_on: tuple[int, ...]
    proposal_id: int
    evaluation_key: str | None
    created_at: datetime

    @property
    def name(self) -> str:
        """The trial's name across runs, `RUN/NUMBER`; also its id in the vector store."""
        return f"{self.run_id}/{self.number}"

    @property
    def identity(self) -> str:
        """Canonical hash of its design."""
        return self.architecture.hash

    @property
    def is_rejected(self) -> bool:
        """Whether its user did not let it be paid for: it has no measurement, and will have none."""
        return self.outcome == "rejected"

    @property
    def file_mb(self) -> float:
        """Size of its weights in the run's file format, in 10^6 bytes."""
        return file_mb(self.architecture, self.goal.file_format)

    @property
    def memory_mb(self) -> float:
        """Memory of these weights and of the run's key/value cache, in 10^6 bytes."""
        return memory_mb(self.architecture, self.goal.file_format, self.goal.memory_context)
